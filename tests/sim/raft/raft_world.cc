#include "tests/sim/raft/raft_world.h"

#include <algorithm>

#include "base/check.h"

namespace muster::sim {

// ---------------------------------------------------------------- disk

bool RaftImage::holds(Index index, Term term) const {
  if (index <= snapshot.index) return true;
  return index > base_index && index <= last() && entries[index - base_index - 1].term == term;
}

bool RaftImage::write(const raft::Write& write) {
  if (write.hard_state) hard_state = *write.hard_state;
  if (write.install) {
    snapshot = *write.install;
    base_index = snapshot.index;
    base_term = snapshot.term;
    entries.clear();
  }
  if (write.entries.empty()) return true;
  const Index first = write.entries.front().index;
  if (first > last() + 1) {
    // A snapshot of what was committed elsewhere may be ahead of the log.
    if (first > snapshot.index + 1) return false;
    base_index = snapshot.index;
    base_term = snapshot.term;
    entries.clear();
    for (const Entry& entry : write.entries) {
      if (entry.index > base_index) entries.push_back(entry);
    }
    return true;
  }
  if (first <= base_index) return false;
  entries.resize(first - base_index - 1);
  entries.insert(entries.end(), write.entries.begin(), write.entries.end());
  return true;
}

raft::Restored RaftImage::restored() const {
  raft::Restored restored{hard_state, snapshot, {}};
  for (const Entry& entry : entries) {
    if (entry.index > snapshot.index) restored.entries.push_back(entry);
  }
  return restored;
}

// ---------------------------------------------------------------- time

RaftWorld::RaftWorld(uint64_t seed, RaftWorldOptions options) : options_(options), rng_(seed) {}

void RaftWorld::schedule(TimePoint at, std::function<void()> run) {
  events_.push({at, rng_.next(), ++serial_, std::move(run)});
}

void RaftWorld::later(MemberId id, Duration delay, std::function<void(RaftMember&)> event) {
  const uint64_t life = members_.at(id).life;
  schedule(now_ + delay, [this, id, life, event = std::move(event)] {
    RaftMember& member = members_.at(id);
    if (member.life != life || member.core == nullptr) return;
    if (!member.paused) return event(member);
    member.held.push_back([this, id, life, event] {
      RaftMember& again = members_.at(id);
      if (again.life == life && again.core != nullptr) event(again);
    });
  });
}

bool RaftWorld::run_event() {
  if (!broken_.empty() || events_.empty()) return false;
  // The queue gives out const; the closure is moved all the same, since it is popped at once.
  Event event = std::move(const_cast<Event&>(events_.top()));
  events_.pop();
  now_ = std::max(now_, event.at);
  event.run();
  return broken_.empty();
}

void RaftWorld::run_for(Duration duration) {
  const TimePoint end = now_ + duration;
  while (broken_.empty() && !events_.empty() && events_.top().at <= end) run_event();
  if (broken_.empty()) now_ = end;
}

bool RaftWorld::run_until(const std::function<bool()>& condition, Duration limit) {
  const TimePoint end = now_ + limit;
  while (!condition()) {
    if (!broken_.empty() || events_.empty() || events_.top().at > end) return false;
    run_event();
  }
  return broken_.empty();
}

Duration RaftWorld::between(Duration low, Duration high) {
  return low + Duration(rng_.below(static_cast<uint64_t>((high - low).count()) + 1));
}

// ---------------------------------------------------------------- members

raft::Member RaftWorld::describe(MemberId id, bool voter) const {
  return {.id = id,
          .node_id = fmt::format("node{}", id.value),
          .address = fmt::format("10.0.0.{}:2377", id.value),
          .voter = voter};
}

void RaftWorld::found(size_t voters) {
  for (size_t i = 1; i <= voters; ++i) founders_.put(describe({i}, true));
  next_id_ = voters + 1;
  for (size_t i = 1; i <= voters; ++i) {
    RaftMember& member = members_[{i}];
    member.id = {i};
    member.first_members = founders_;
    boot(member);
  }
}

MemberId RaftWorld::add_stranger() {
  const MemberId id{next_id_++};
  members_[id].id = id;
  boot(members_[id]);
  return id;
}

void RaftWorld::boot(RaftMember& member) {
  ++member.life;
  member.rng = std::make_unique<SeededRng>(rng_.next());
  member.writing.clear();
  member.held.clear();
  member.disk_free = now_;
  member.timer.reset();
  member.snapshotting = false;
  member.paused = false;
  member.applied = 0;
  member.core = std::make_unique<Core>(options_.tuning, member.id, member.disk.restored(),
                                       member.first_members, *member.rng, now_);
  drain(member);
}

void RaftWorld::crash(MemberId id) {
  RaftMember& member = members_.at(id);
  if (member.core == nullptr) return;
  member.core.reset();
  leaderships_.erase(id);
  ++member.life;
  member.paused = false;
  for (auto& event : std::exchange(member.held, {})) event();  // nobody is there to take it
  // Of what was under way any beginning may have reached the disk.
  const uint64_t reached = rng_.below(member.writing.size() + 1);
  for (uint64_t i = 0; i < reached; ++i) {
    if (!member.disk.write(member.writing[i])) fail("a write does not fit the disk");
  }
  member.writing.clear();
  note(id.value);
}

void RaftWorld::restart(MemberId id) {
  RaftMember& member = members_.at(id);
  if (member.core == nullptr) boot(member);
}

void RaftWorld::pause(MemberId id) {
  members_.at(id).paused = true;
}

void RaftWorld::resume(MemberId id) {
  RaftMember& member = members_.at(id);
  if (!member.paused) return;
  member.paused = false;
  if (const auto led = leaderships_.find(id); led != leaderships_.end()) led->second.since = now_;
  auto held = std::exchange(member.held, {});
  // What came in waits in the sockets; which of it is looked at first is luck.
  rng_.shuffle(std::span(held));
  for (auto& event : held) {
    if (broken_.empty()) event();
  }
}

void RaftWorld::isolate(MemberId id) {
  for (const auto& [other, member] : members_) {
    if (other == id) continue;
    cut(id, other);
    cut(other, id);
  }
}

std::vector<MemberId> RaftWorld::ids() const {
  std::vector<MemberId> out;
  for (const auto& [id, member] : members_) out.push_back(id);
  return out;
}

std::vector<MemberId> RaftWorld::running() const {
  std::vector<MemberId> out;
  for (const auto& [id, member] : members_) {
    if (member.core != nullptr && !member.paused) out.push_back(id);
  }
  return out;
}

std::optional<MemberId> RaftWorld::leader() const {
  const RaftMember* best = nullptr;
  for (const MemberId id : running()) {
    const RaftMember& member = members_.at(id);
    if (member.core->role() != raft::Role::kLeader) continue;
    if (best == nullptr || member.core->term() > best->core->term()) best = &member;
  }
  return best == nullptr ? std::nullopt : std::optional(best->id);
}

MemberId RaftWorld::await_leader(Duration limit) {
  const bool found = run_until(
      [&] {
        const auto leading = leader();
        if (!leading || !core(*leading).leads_surely()) return false;
        const auto up = running();
        return std::all_of(up.begin(), up.end(), [&](MemberId id) {
          return core(*leading).members().find(id) == nullptr || core(id).leader() == *leading;
        });
      },
      limit);
  if (!found) fail("no leader in time");
  return found ? *leader() : MemberId();
}

// ---------------------------------------------------------------- what users do

Result<Index> RaftWorld::propose(MemberId at, const std::string& payload) {
  RaftMember& member = members_.at(at);
  auto index = member.core->propose(now_, payload);
  if (index) proposed_[payload] = {*index, member.core->term()};
  if (index && payload.size() > options_.tuning.proposal_bytes_max) {
    fail(fmt::format("a proposal of {} bytes was taken (R13)", payload.size()));
  }
  drain(member);
  return index;
}

Result<Index> RaftWorld::change_members(MemberId at, Members members) {
  RaftMember& member = members_.at(at);
  auto index = member.core->propose_members(now_, std::move(members));
  drain(member);
  return index;
}

void RaftWorld::read(MemberId at) {
  RaftMember& member = members_.at(at);
  const Index floor = acknowledged_.empty() ? 0 : *acknowledged_.rbegin();
  const auto ticket = member.core->read(now_);
  if (ticket) reads_[{at, member.life << 32 | *ticket}] = {floor, leaderships_[at].round};
  drain(member);
}

void RaftWorld::suspect(MemberId id) {
  members_.at(id).core->suspect_leader(now_);
  drain(members_.at(id));
}

void RaftWorld::transfer(MemberId from, MemberId to) {
  (void)members_.at(from).core->transfer_to(now_, to);
  drain(members_.at(from));
}

// ---------------------------------------------------------------- the driver

void RaftWorld::drain(RaftMember& member) {
  Core& core = *member.core;
  core.check_invariants();
  while (broken_.empty() && core.has_output()) {
    raft::Output out = core.take();
    if (out.role) check_role(member, *out.role);
    for (raft::Write& write : out.writes) {
      check_write(member, write);
      disk_write(member, std::move(write));
    }
    for (const Message& message : out.messages) {
      check_message(member, message);
      check_sent(member, message);
      if (watch) watch(message);
      deliver(message);
    }
    if (out.restore) {
      check_restored(member, *out.restore);
      member.applied = out.restore->index;
      core.applied(now_, member.applied);
    }
    apply(member, out.apply);
    for (const raft::ReadGrant& grant : out.reads) check_read(member, grant);
    core.check_invariants();
  }
  check_leading(member);
  maybe_snapshot(member);
  arm_timer(member);
}

void RaftWorld::arm_timer(RaftMember& member) {
  const TimePoint due = member.core->next_deadline();
  if (due == member.timer) return;
  member.timer = due;
  later(member.id, due - now_, [this](RaftMember& m) {
    if (m.core->next_deadline() > now_) return;
    m.timer.reset();
    m.core->tick(now_);
    drain(m);
    check_hears_quorum(m);
  });
}

void RaftWorld::disk_write(RaftMember& member, raft::Write write) {
  const uint64_t token = write.token;
  member.writing.push_back(std::move(write));
  // One writer: steps finish in order, and those that queue up are often synced together.
  member.disk_free = std::max(member.disk_free, now_) +
                     between(options_.weather.disk_min, options_.weather.disk_max);
  later(member.id, member.disk_free - now_, [this, token](RaftMember& m) {
    uint64_t up_to = token;
    if (!m.writing.empty() && chance(300)) up_to = m.writing.back().token;
    finish_writes(m, up_to);
  });
}

void RaftWorld::finish_writes(RaftMember& member, uint64_t token) {
  bool any = false;
  while (!member.writing.empty() && member.writing.front().token <= token) {
    if (!member.disk.write(member.writing.front())) fail("a write does not fit the disk");
    member.writing.erase(member.writing.begin());
    any = true;
  }
  if (!any) return;
  Term& term = durable_terms_[member.id];
  if (member.disk.hard_state.term < term) fail("a durable term went back (R3)");
  term = member.disk.hard_state.term;
  member.core->written(now_, token);
  drain(member);
}

void RaftWorld::apply(RaftMember& member, const std::vector<Entry>& entries) {
  for (const Entry& entry : entries) {
    if (entry.index != member.applied + 1) return fail("a gap in what is applied (R6)");
    check_applied(member, entry);
    member.applied = entry.index;
  }
  if (!entries.empty()) member.core->applied(now_, member.applied);
}

void RaftWorld::maybe_snapshot(RaftMember& member) {
  if (member.snapshotting) return;
  if (member.applied < member.core->snapshot().index + options_.snapshot_every) return;
  member.snapshotting = true;
  const SnapshotMark mark{member.applied, canonical_[member.applied - 1].term,
                          member.core->members_at(member.applied)};
  later(member.id, between(1ms, 20ms), [this, mark](RaftMember& m) { save_snapshot(m, mark); });
}

// The mark is written by the writer of the log, after what was under way.
void RaftWorld::save_snapshot(RaftMember& member, const SnapshotMark& mark) {
  if (member.core->durable() < mark.index && mark.index > member.core->snapshot().index) {
    return later(member.id, 1ms, [this, mark](RaftMember& m) { save_snapshot(m, mark); });
  }
  member.snapshotting = false;
  if (mark.index > member.core->snapshot().index) {
    const Index keep_from = mark.index > options_.trailing ? mark.index - options_.trailing : 1;
    RaftImage& disk = member.disk;
    disk.snapshot = mark;
    while (!disk.entries.empty() && disk.base_index + 1 < keep_from) {
      disk.base_term = disk.entries.front().term;
      ++disk.base_index;
      disk.entries.erase(disk.entries.begin());
    }
    member.core->compacted(mark, keep_from);
  }
  drain(member);
}

// ---------------------------------------------------------------- network

void RaftWorld::lost(const Message& message) {
  if (message.kind == MessageKind::kSnapshot) {
    later(message.from, 10ms, [this, to = message.to](RaftMember& m) {
      m.core->snapshot_failed(now_, to);
      drain(m);
    });
  } else if (chance(100)) {
    later(message.from, 1ms, [this, to = message.to](RaftMember& m) {
      m.core->unreachable(to);
      drain(m);
    });
  }
}

void RaftWorld::deliver(const Message& message) {
  note(static_cast<uint64_t>(message.kind) << 32 | message.to.value);
  const bool gone = cut_.contains({message.from, message.to}) || (lose && lose(message)) ||
                    !members_.contains(message.to) || chance(options_.weather.lost_permille);
  if (gone) return lost(message);
  const int copies = chance(options_.weather.doubled_permille) ? 2 : 1;
  for (int i = 0; i < copies; ++i) {
    Duration latency = between(options_.weather.latency_min, options_.weather.latency_max);
    if (message.kind == MessageKind::kSnapshot) latency = latency * 5;
    schedule(now_ + latency, [this, message] {
      RaftMember& to = members_.at(message.to);
      if (to.core == nullptr) return lost(message);
      const uint64_t life = to.life;
      const auto take = [this, message, life] {
        RaftMember& m = members_.at(message.to);
        if (m.core == nullptr || m.life != life) return lost(message);
        note(now_.since_start.count() ^ static_cast<int64_t>(message.term));
        note_heard(m, message);
        m.core->step(now_, message);
        drain(m);
      };
      if (to.paused) {
        to.held.push_back(take);
      } else {
        take();
      }
    });
  }
}

}  // namespace muster::sim
