#include "tests/sim/sim_group.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "tests/sim/sim_certificates.h"
#include "tests/sim/sim_state_rules.h"

namespace muster::sim {

namespace store = manager::store;

namespace {

// FNV-1a.
class Hash {
 public:
  void add(const std::string& bytes) {
    for (const char c : bytes) value_ = (value_ ^ static_cast<unsigned char>(c)) * 1099511628211U;
    value_ = (value_ ^ bytes.size()) * 1099511628211U;
  }
  uint64_t value() const { return value_; }

 private:
  uint64_t value_ = 14695981039346656037U;
};

// Whatever their order: each object is changed once, and who proposed an entry lists its changes as
// the transactions made them.
uint64_t hash_of(const std::vector<store::AnyChange>& changes) {
  uint64_t sum = 0;
  for (const store::AnyChange& any : changes) {
    Hash hash;
    std::visit(
        [&](const auto& change) {
          hash.add(change.after != nullptr ? change.after->SerializeAsString()
                                           : "-" + change.before->id());
        },
        any);
    sum += hash.value();
  }
  return sum;
}

uint64_t hash_of(const store::Snapshot& state) {
  Hash hash;
  const Status saved = store::Store::save(state, 1 << 20, [&](const std::string& chunk) {
    hash.add(chunk);
    return ok_status();
  });
  return saved.ok() ? hash.value() : 0;
}

std::string name_of_manager(SimCertificates* certificates, uint64_t number,
                            const LocalClock& clock) {
  std::string name = fmt::format("m{}", number);
  return certificates == nullptr ? name : certificates->add_manager(name, clock).id();
}

}  // namespace

SimGroup::SimGroup(Deps deps, size_t count)
    : deps_(std::move(deps)),
      strand_(deps_.world),
      rules_(
          [this](raft::MemberId id) -> const LogImage* {
            for (const auto& manager : managers_) {
              if (manager->place.self.id == id) return &manager->place.image;
            }
            return nullptr;
          },
          deps_.broken),
      snapshot_entries_(50 + deps_.rng.below(400)) {
  for (uint64_t number = 1; number <= count; ++number) {
    auto& manager = managers_.emplace_back(std::make_unique<Manager>(deps_.world));
    manager->place.self = {
        .id = {number},
        .node_id = name_of_manager(deps_.certificates, number, manager->place.clock),
        .address = fmt::format("192.0.2.{}:2377", number)};
    group_.put(manager->place.self);
    if (!has(Trouble::kClocks)) continue;
    constexpr int64_t kPpm = 10'000;
    manager->place.clock.run_fast(static_cast<int64_t>(deps_.extra.below(2 * kPpm)) - kPpm);
  }
  managers_.front()->founder = true;
  connect_lanes();
  if (!has(Trouble::kRoles) && !has(Trouble::kDiskLost) && deps_.certificates == nullptr) return;
  for (const auto& manager : managers_) {
    manager_nodes_.push_back(manager->place.self.node_id);
    manager->member = manager->founder;
  }
}

void SimGroup::connect_lanes() {
  // As the daemon answers it: only a leader has the newest list for certain.
  lanes_.removed = [this](raft::MemberId at, raft::MemberId from) {
    for (const auto& manager : managers_) {
      if (manager->place.self.id != at || manager->life == nullptr) continue;
      if (manager->life->parts == nullptr) continue;
      const raft::GroupView view = manager->life->parts->replicated.group().view();
      return view.leads && view.find(from) == nullptr;
    }
    return false;
  };
  lanes_.on_snapshot = [this](bool whole) {
    deps_.probes.hit(whole ? "snapshot sent whole" : "snapshot cut off on its way");
  };
  lanes_.watch = [this](const raft::Message& message) { rules_.on_message(message); };
  if (deps_.certificates == nullptr) return;
  lanes_.admits = [this](raft::MemberId from, raft::MemberId to) {
    const auto node_of = [this](raft::MemberId id) {
      for (const auto& manager : managers_) {
        if (manager->place.self.id == id) return manager->place.self.node_id;
      }
      return std::string();
    };
    return deps_.certificates->admit_lane(node_of(from), node_of(to));
  };
}

SimGroup::~SimGroup() {
  for (const auto& manager : managers_) kill(*manager);
}

// ---------------------------------------------------------------- lives

void SimGroup::found() {
  for (const auto& manager : managers_) {
    if (manager->member || deps_.certificates != nullptr) start(*manager);
  }
  if (keeper()) look_after_members();
}

ManagerLife::Events SimGroup::events_of(Manager& manager) {
  ManagerLife::Events events;
  events.on_lead = [this, &manager](uint64_t term) { leads(manager, term); };
  events.on_follow = [this, &manager] {
    say(manager, "leads no more");
    if (serving_ != manager.life.get()) return;
    deps_.network.manager_gone();
    serving_ = nullptr;
  };
  events.on_fatal = [this](const Status& status) { deps_.broken(status.to_string()); };
  events.broken = deps_.broken;
  events.on_removed = [this, &manager, life = manager.lives] {
    deps_.probes.hit("member removed");
    strand_.post([this, &manager, life] {
      if (life == manager.lives) retire(manager);
    });
  };
  events.on_commit = [this, &manager](const store::CommitEvent& event) {
    committed(manager, event);
  };
  return events;
}

// The founder's disk may have been killed before it was a group: then it founds again.
void SimGroup::start(Manager& manager) {
  manager.away = false;
  process(manager, true);
  if (manager.life != nullptr || !manager.member) return;
  ++lives_;
  const uint64_t life = ++manager.lives;
  manager.seen = {};
  const auto mode = manager.founder ? raft::StartMode::kFound : raft::StartMode::kRestore;
  manager.life = std::make_unique<ManagerLife>(
      ManagerLife::World{deps_.world, deps_.rng, lanes_, deps_.node_ids, deps_.probes},
      manager.place,
      ManagerLife::Options{mode, keeper() ? raft::Members() : group_, manager_nodes_,
                           snapshot_entries_, deps_.rng.below(60), deps_.mutant,
                           deps_.certificates == nullptr ? nullptr : &deps_.certificates->swarm()},
      events_of(manager));
  manager.life->disk.on_durable = [this, &manager](const LogImage& image) {
    durable(manager, image);
  };
  say(manager, "starts");
  manager.life->strand.post([this, &manager, life] {
    if (life != manager.lives) return;
    const Status started = manager.life->start();
    if (!started.ok()) deps_.broken(started.to_string());
  });
}

void SimGroup::kill(Manager& manager) {
  manager.stopping = false;
  if (manager.life == nullptr) return;
  if (serving_ == manager.life.get()) {
    deps_.network.manager_gone();
    serving_ = nullptr;
  }
  ++manager.lives;
  manager.life->kill();
  manager.life.reset();
}

void SimGroup::away(Manager& manager, Duration time) {
  if (manager.life != nullptr) deps_.probes.hit("manager killed");
  say(manager, "is killed");
  kill(manager);
  process(manager, false);
  manager.away = true;
  strand_.after(time, [this, &manager] { start(manager); });
}

// As the service manager does it: who does not end in time is killed.
void SimGroup::stop(Manager& manager, Duration time) {
  if (manager.life == nullptr || std::exchange(manager.stopping, true)) return;
  say(manager, "stops");
  const auto ended = [this, &manager, time, life = manager.lives] {
    if (life != manager.lives || manager.life == nullptr) return;
    kill(manager);
    process(manager, false);
    manager.away = true;
    strand_.after(time, [this, &manager] { start(manager); });
  };
  manager.life->strand.post([this, &manager, ended] {
    manager.life->stop([this, ended] {
      deps_.probes.hit("manager stopped in order");
      strand_.post(ended);
    });
  });
  strand_.after(15s, ended);
}

void SimGroup::wedge(Manager& manager, Duration time) {
  if (manager.life == nullptr) return;
  say(manager, "hangs");
  manager.life->strand.pause();
  strand_.after(time, [&manager, life = manager.lives] {
    if (life == manager.lives) manager.life->strand.resume();
  });
}

// ---------------------------------------------------------------- trouble

// The leader's trouble is the most instructive.
SimGroup::Manager& SimGroup::victim() {
  if (deps_.rng.below(2) == 0) {
    for (const auto& manager : managers_) {
      if (manager->life != nullptr && manager->life.get() == serving_) return *manager;
    }
  }
  return *managers_[deps_.rng.below(managers_.size())];
}

void SimGroup::disturb() {
  static constexpr Trouble kKinds[] = {
      Trouble::kManagerKilled, Trouble::kManagerCut, Trouble::kOneWay,       Trouble::kDiskFull,
      Trouble::kDiskStuck,     Trouble::kDiskSlow,   Trouble::kManagerHangs, Trouble::kTransfer};
  Manager& manager = victim();
  const raft::MemberId id = manager.place.self.id;
  const Trouble kind = kKinds[deps_.rng.below(8)];
  if (!has(kind)) return;
  say(manager, fmt::format("has trouble: {}", name_of(kind)));
  switch (kind) {
    case Trouble::kManagerKilled:
      return away(manager, up_to(deps_.rng.below(4) == 0 ? 12'000 : 1'000));
    case Trouble::kManagerCut: return isolate(manager, up_to(4'000));
    case Trouble::kOneWay: {
      const raft::MemberId other = managers_[deps_.rng.below(managers_.size())]->place.self.id;
      lanes_.cut(id, other);
      strand_.after(up_to(4'000), [this, id, other] { lanes_.mend(id, other); });
      return;
    }
    case Trouble::kDiskFull:
      deps_.probes.hit("disk full");
      manager.place.disk.full = true;
      strand_.after(up_to(4'000), [&manager] { manager.place.disk.full = false; });
      return;
    case Trouble::kDiskStuck:
      deps_.probes.hit("disk stuck");
      manager.place.disk.stuck = true;
      strand_.after(up_to(6'000), [&manager] { manager.place.disk.stuck = false; });
      return;
    case Trouble::kDiskSlow:
      manager.place.disk.write_max = up_to(100);
      strand_.after(up_to(4'000), [&manager] { manager.place.disk.write_max = Duration(2ms); });
      return;
    case Trouble::kManagerHangs: return wedge(manager, up_to(8'000));
    default:
      if (serving_ == nullptr || serving_->parts == nullptr) return;
      serving_->strand.post([this, life = serving_] {
        life->parts->replicated.group().transfer_leadership({}, [this](const Status& status) {
          if (status.ok()) deps_.probes.hit("leadership handed over");
        });
      });
  }
}

void SimGroup::isolate(const Manager& manager, Duration time) {
  const raft::MemberId id = manager.place.self.id;
  const std::string& node = manager.place.self.node_id;
  lanes_.isolate(id);
  if (deps_.certificates != nullptr) deps_.network.cut(node);
  strand_.after(time, [this, id, node] {
    lanes_.mend(id);
    if (deps_.certificates != nullptr) deps_.network.mend(node);
  });
}

void SimGroup::process(const Manager& manager, bool up) {
  if (deps_.certificates == nullptr) return;
  const std::string& node = manager.place.self.node_id;
  up ? deps_.certificates->manager_up(node) : deps_.certificates->manager_down(node);
}

void SimGroup::disturb_more() {
  static constexpr Trouble kKinds[] = {Trouble::kManagerStops, Trouble::kDiskLost, Trouble::kRoles,
                                       Trouble::kClocks, Trouble::kLossyLanes};
  const Trouble kind = kKinds[deps_.extra.below(5)];
  Manager& manager = *managers_[deps_.extra.below(managers_.size())];
  if (!has(kind)) return;
  switch (kind) {
    case Trouble::kManagerStops: return stop(manager, extra_up_to(3'000));
    case Trouble::kDiskLost: return lose_disk(manager);
    case Trouble::kRoles: return change_role(manager);
    case Trouble::kClocks: {
      deps_.probes.hit("clock stepped");
      const Duration by = extra_up_to(2'000) - Duration(1s);
      say(manager, fmt::format("'s wall clock steps by {} ms", by / 1ms));
      return manager.place.clock.step(by);
    }
    default:
      lanes_.weather().lost_permille = deps_.extra.below(100);
      lanes_.weather().doubled_permille = deps_.extra.below(100);
      strand_.after(extra_up_to(5'000), [this] { lanes_.weather() = {}; });
  }
}

void SimGroup::step_clock(Rng& rng) {
  Manager& manager = *managers_[rng.below(managers_.size())];
  const Duration by = Duration(1s) * (static_cast<int64_t>(rng.below(12 * 3'600)) - 6 * 3'600);
  deps_.probes.hit("clock stepped by hours");
  say(manager, fmt::format("'s wall clock steps by {} min", by / 1min));
  manager.place.clock.step(by);
}

void SimGroup::read() {
  Manager& manager = *managers_[deps_.extra.below(managers_.size())];
  if (manager.life == nullptr || manager.stopping) return;
  manager.life->strand.post([this, life = manager.life.get()] {
    if (life->parts == nullptr) return;
    const uint64_t floor = latest_.version();
    life->parts->replicated.group().read_barrier([this, life, floor](Result<raft::Index> index) {
      deps_.probes.hit(index ? "read confirmed by a quorum" : "read refused");
      const uint64_t sees = life->parts->store.snapshot().version();
      if (!index || (*index >= floor && sees >= floor)) return;
      deps_.broken(fmt::format("a read at {} sees {}, but {} was committed before it began (R10)",
                               *index, sees, floor));
    });
  });
}

bool SimGroup::heal_core() {
  if (keeper()) return false;
  for (const auto& manager : managers_) {
    if (manager->stopping) return false;
  }
  lanes_.mend_all();
  lanes_.weather() = {};
  const size_t left_out = (managers_.size() - 1) / 2;
  const size_t first = deps_.extra.below(managers_.size());
  for (size_t i = 0; i < managers_.size(); ++i) {
    Manager& manager = *managers_[(first + i) % managers_.size()];
    if (i < left_out) {
      say(manager, "is left out");
      lanes_.isolate(manager.place.self.id);
      continue;
    }
    manager.place.disk = {};
    if (manager.life != nullptr) manager.life->strand.resume();
    start(manager);
  }
  return true;
}

void SimGroup::heal() {
  lanes_.mend_all();
  lanes_.weather() = {};
  for (const auto& manager : managers_) {
    manager->place.disk = {};
    if (has(Trouble::kHours)) manager->place.clock.set_right();
    if (manager->life != nullptr) manager->life->strand.resume();
    start(*manager);
  }
}

// ---------------------------------------------------------------- what must hold

ManagerLife* SimGroup::life_of(const std::string& node_id) {
  for (const auto& manager : managers_) {
    if (manager->place.self.node_id == node_id) return manager->life.get();
  }
  return nullptr;
}

ManagerLife* SimGroup::leader() {
  ManagerLife* best = nullptr;
  for (const auto& manager : managers_) {
    ManagerLife* life = manager->life.get();
    if (life == nullptr || life->working_term() == 0 || !life->parts->store.leading()) continue;
    if (best == nullptr || life->working_term() > best->working_term()) best = life;
  }
  return best;
}

void SimGroup::leads(Manager& manager, uint64_t term) {
  say(manager, fmt::format("leads term {}", term));
  if (!leaders_.empty()) deps_.probes.hit("leader changed");
  const auto [at, fresh] = leaders_.try_emplace(term, manager.place.self.id);
  if (!fresh) return deps_.broken(fmt::format("term {} has two leaders, or one twice", term));
  if (at != std::prev(leaders_.end())) return;  // somebody has been elected after it
  deps_.network.manager_gone();
  serving_ = manager.life.get();
  deps_.network.manager_up(serving_->strand.world_strand(), serving_->parts->dispatcher);
}

void SimGroup::durable(Manager& manager, const LogImage& image) {
  rules_.on_durable(manager.place.self.id, image);
  if (!image.log.holds(manager.last, manager.last_term)) deps_.probes.hit("log cut back");
  if (image.log.snapshot.index > manager.snapshot) deps_.probes.hit("snapshot taken");
  manager.last = image.log.last();
  manager.last_term =
      image.log.entries.empty() ? image.log.base_term : image.log.entries.back().term;
  manager.snapshot = image.log.snapshot.index;
}

void SimGroup::committed(Manager& manager, const store::CommitEvent& event) {
  const uint64_t before = manager.seen.version();
  if (const std::string wrong = differs_from(manager.seen, event); !wrong.empty()) {
    deps_.broken(fmt::format("what watchers of {} see at {} is not what was done: {} (M2)",
                             manager.place.self.node_id, event.version, wrong));
  }
  manager.seen = event.after;
  if (event.version > latest_.version()) {
    if (before != latest_.version()) {
      return deps_.broken(fmt::format("{} went from {} to {}, but {} was committed between",
                                      manager.place.self.node_id, before, event.version,
                                      latest_.version()));
    }
    check_new(manager, event);
    history_[event.version] = {before, hash_of(*event.changes)};
    latest_ = event.after;
    return deps_.on_commit(event);
  }
  const auto known = history_.find(event.version);
  if (known == history_.end()) {
    return deps_.broken(fmt::format("{} is at {}, which was never committed",
                                    manager.place.self.node_id, event.version));
  }
  // From a snapshot the way is another one; where it ends is compared at the end.
  if (known->second.before != before) {
    if (before != 0) deps_.probes.hit("snapshot loaded while running");
    return;
  }
  if (known->second.hash != hash_of(*event.changes)) {
    deps_.broken(fmt::format("{} did something else at {} than others", manager.place.self.node_id,
                             event.version));
  }
}

// Nobody else has told of this commit yet.
void SimGroup::check_new(Manager& manager, const store::CommitEvent& event) {
  std::vector<raft::Members> groups;
  for (const auto& other : managers_) {
    if (other->life == nullptr || other->life->parts == nullptr) continue;
    raft::Members& group = groups.emplace_back();
    for (const auto& view : other->life->parts->replicated.group().view().members) {
      group.put(view.member);
    }
  }
  rules_.on_new_commit(event.version, groups);
  if (!keeper()) return;
  // A certificate never says more than the group allows (M11): who is to have a worker's is no
  // member any more.
  const raft::GroupView view = manager.life->parts->replicated.group().view();
  for (const store::AnyChange& any : *event.changes) {
    const auto* change = std::get_if<store::Change<v1::Node>>(&any);
    if (change == nullptr || change->before == nullptr || change->after == nullptr) continue;
    const v1::Node& node = *change->after;
    if (change->before->role() == node.role() || node.role() != v1::NodeSpec::WORKER) continue;
    if (node.spec().desired_role() == v1::NodeSpec::WORKER && view.find_node(node.id()) == nullptr)
      continue;
    deps_.broken(fmt::format("{} has a worker's role but is a member still (M11)", node.id()));
  }
}

std::string SimGroup::describe() const {
  std::string text;
  for (const auto& manager : managers_) {
    text += fmt::format("; {} ({}): ", manager->place.self.node_id, manager->place.self.id.value);
    if (manager->life == nullptr || manager->life->parts == nullptr) {
      text += manager->member ? "away" : "no member";
      continue;
    }
    const raft::GroupView view = manager->life->parts->replicated.group().view();
    text += fmt::format(
        "term {} leader {} commit {} applied {} store {}{}{}{} group", view.term, view.leader.value,
        view.commit, view.applied, manager->life->parts->store.snapshot().version(),
        view.leads ? " leads" : "", manager->life->parts->store.leading() ? " writes" : "",
        manager->life->strand.paused() ? " paused" : "");
    for (const auto& member : view.members) {
      text += fmt::format(" {}{}", member.member.id.value, member.member.voter ? "" : "?");
    }
  }
  return text;
}

bool SimGroup::level() const {
  return std::all_of(managers_.begin(), managers_.end(), [this](const auto& manager) {
    return !manager->member ||
           manager->life->parts->store.snapshot().version() == latest_.version();
  });
}

Status SimGroup::check_equal() {
  const uint64_t expected = hash_of(latest_);
  for (const auto& manager : managers_) {
    if (!manager->member) continue;
    const store::Snapshot state = manager->life->parts->store.snapshot();
    if (state.version() == latest_.version() && hash_of(state) == expected) continue;
    return internal_error("{} has another state at {} than others at {}{}",
                          manager->place.self.node_id, state.version(), latest_.version(),
                          describe());
  }
  return check_members();
}

}  // namespace muster::sim
