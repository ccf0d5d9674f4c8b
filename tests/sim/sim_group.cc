#include "tests/sim/sim_group.h"

#include <utility>
#include <variant>

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

}  // namespace

SimGroup::SimGroup(Deps deps, size_t count)
    : deps_(std::move(deps)), strand_(deps_.world), snapshot_entries_(50 + deps_.rng.below(400)) {
  for (uint64_t number = 1; number <= count; ++number) {
    auto& manager = managers_.emplace_back(std::make_unique<Manager>());
    manager->place.self = {.id = {number},
                           .node_id = fmt::format("m{}", number),
                           .address = fmt::format("192.0.2.{}:2377", number)};
    group_.put(manager->place.self);
  }
}

SimGroup::~SimGroup() {
  for (const auto& manager : managers_) kill(*manager);
}

// ---------------------------------------------------------------- lives

void SimGroup::found() {
  start(*managers_.front(), raft::StartMode::kFound);
  for (size_t i = 1; i < managers_.size(); ++i) start(*managers_[i], raft::StartMode::kJoin);
}

void SimGroup::start(Manager& manager, raft::StartMode mode) {
  if (manager.life != nullptr) return;
  ++lives_;
  const uint64_t life = ++manager.lives;
  manager.at = 0;
  ManagerLife::Events events;
  events.on_lead = [this, &manager](uint64_t term) { leads(manager, term); };
  events.on_follow = [this, &manager] {
    if (serving_ != manager.life.get()) return;
    deps_.network.manager_gone();
    serving_ = nullptr;
  };
  events.on_fatal = [this](const Status& status) { deps_.broken(status.to_string()); };
  events.on_commit = [this, &manager](const store::CommitEvent& event) {
    committed(manager, event);
  };
  manager.life = std::make_unique<ManagerLife>(
      ManagerLife::World{deps_.world, deps_.rng, lanes_, deps_.node_ids}, manager.place,
      ManagerLife::Options{mode, group_, snapshot_entries_, deps_.rng.below(60)},
      std::move(events));
  manager.life->strand.post([this, &manager, life] {
    if (life != manager.lives) return;
    const Status started = manager.life->start();
    if (!started.ok()) deps_.broken(started.to_string());
  });
}

void SimGroup::kill(Manager& manager) {
  if (manager.life == nullptr) return;
  if (serving_ == manager.life.get()) {
    deps_.network.manager_gone();
    serving_ = nullptr;
  }
  ++manager.lives;
  manager.life->kill();
  manager.life.reset();
}

// The founder's disk may have been killed before it was a group: then it founds again.
void SimGroup::away(Manager& manager, Duration time) {
  kill(manager);
  strand_.after(time, [this, &manager] {
    start(manager, &manager == managers_.front().get() ? raft::StartMode::kFound
                                                       : raft::StartMode::kRestore);
  });
}

void SimGroup::wedge(Manager& manager, Duration time) {
  if (manager.life == nullptr) return;
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
  Manager& manager = victim();
  const raft::MemberId id = manager.place.self.id;
  switch (deps_.rng.below(8)) {
    case 0: return away(manager, up_to(deps_.rng.below(4) == 0 ? 12'000 : 1'000));
    case 1:
      lanes_.isolate(id);
      strand_.after(up_to(4'000), [this, id] { lanes_.mend(id); });
      return;
    case 2: {
      const raft::MemberId other = managers_[deps_.rng.below(managers_.size())]->place.self.id;
      lanes_.cut(id, other);
      strand_.after(up_to(4'000), [this, id, other] { lanes_.mend(id, other); });
      return;
    }
    case 3:
      manager.place.disk.full = true;
      strand_.after(up_to(4'000), [&manager] { manager.place.disk.full = false; });
      return;
    case 4:
      manager.place.disk.stuck = true;
      strand_.after(up_to(6'000), [&manager] { manager.place.disk.stuck = false; });
      return;
    case 5:
      manager.place.disk.write_max = up_to(100);
      strand_.after(up_to(4'000), [&manager] { manager.place.disk.write_max = Duration(2ms); });
      return;
    case 6: return wedge(manager, up_to(8'000));
    default:
      if (serving_ != nullptr && serving_->parts != nullptr) {
        serving_->strand.post([life = serving_] {
          life->parts->replicated.group().transfer_leadership({}, [](const Status&) {});
        });
      }
      return;
  }
}

void SimGroup::heal() {
  lanes_.mend_all();
  for (const auto& manager : managers_) {
    manager->place.disk = {};
    if (manager->life != nullptr) manager->life->strand.resume();
    start(*manager,
          manager == managers_.front() ? raft::StartMode::kFound : raft::StartMode::kRestore);
  }
}

// ---------------------------------------------------------------- what must hold

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
  const auto [at, fresh] = leaders_.try_emplace(term, manager.place.self.id);
  if (!fresh) return deps_.broken(fmt::format("term {} has two leaders, or one twice", term));
  if (at != std::prev(leaders_.end())) return;  // somebody has been elected after it
  deps_.network.manager_gone();
  serving_ = manager.life.get();
  deps_.network.manager_up(serving_->strand, serving_->parts->dispatcher);
}

void SimGroup::committed(Manager& manager, const store::CommitEvent& event) {
  const uint64_t before = std::exchange(manager.at, event.version);
  if (event.version > latest_.version()) {
    if (before != latest_.version()) {
      return deps_.broken(fmt::format("{} went from {} to {}, but {} was committed between",
                                      manager.place.self.node_id, before, event.version,
                                      latest_.version()));
    }
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
  if (known->second.before != before) return;
  if (known->second.hash != hash_of(*event.changes)) {
    deps_.broken(fmt::format("{} did something else at {} than others", manager.place.self.node_id,
                             event.version));
  }
}

std::string SimGroup::describe() const {
  std::string text;
  for (const auto& manager : managers_) {
    text += fmt::format("; {}: ", manager->place.self.node_id);
    if (manager->life == nullptr || manager->life->parts == nullptr) {
      text += "away";
      continue;
    }
    const raft::GroupView view = manager->life->parts->replicated.group().view();
    text += fmt::format(
        "term {} leader {} commit {} applied {} store {}{}{}{}", view.term, view.leader.value,
        view.commit, view.applied, manager->life->parts->store.snapshot().version(),
        view.leads ? " leads" : "", manager->life->parts->store.leading() ? " writes" : "",
        manager->life->strand.paused() ? " paused" : "");
  }
  return text;
}

Status SimGroup::check_equal() {
  const uint64_t expected = hash_of(latest_);
  for (const auto& manager : managers_) {
    const store::Snapshot state = manager->life->parts->store.snapshot();
    if (state.version() == latest_.version() && hash_of(state) == expected) continue;
    return internal_error("{} has another state at {} than others at {}",
                          manager->place.self.node_id, state.version(), latest_.version());
  }
  return ok_status();
}

}  // namespace muster::sim
