#include "tests/sim/log/sim_log_disk.h"

#include <algorithm>

#include "base/check.h"

namespace muster::sim {
namespace {

constexpr Duration kLookAfter = 1s;  // as LogDisk does

class Source final : public raft::SnapshotSource {
 public:
  explicit Source(std::vector<std::string> chunks) : chunks_(std::move(chunks)) {}
  Result<std::string> next() override {
    return next_ == chunks_.size() ? std::string() : chunks_[next_++];
  }

 private:
  std::vector<std::string> chunks_;
  size_t next_ = 0;
};

class Sink final : public raft::SnapshotSink {
 public:
  Sink(LogImage& image, std::pair<raft::Index, raft::Term> name, bool without_tail = false)
      : image_(image), name_(name), without_tail_(without_tail) {}
  Status add(std::string_view chunk) override {
    MUSTER_CHECK(!chunk.empty());
    chunks_.emplace_back(chunk);
    return ok_status();
  }
  Status finish() override {
    if (without_tail_) chunks_.pop_back();
    image_.snapshots.insert_or_assign(name_, std::move(chunks_));
    return ok_status();
  }

 private:
  LogImage& image_;
  std::pair<raft::Index, raft::Term> name_;
  bool without_tail_;
  std::vector<std::string> chunks_;
};

}  // namespace

raft::Restored LogImage::restored() const {
  raft::Restored restored{log.hard_state, log.snapshot, log.entries, log.base_term};
  return restored;
}

void SimLogDisk::kill() {
  if (std::exchange(ended_, true)) return;
  if (mutant == SimMutant::kDiskLosesSynced) return lose_synced();
  // A write is there as a whole or not at all.
  if (under_way_.empty() || weather_.stuck || weather_.fails || rng_.below(2) == 0) return;
  for (Step& step : under_way_) put(step);
  if (on_durable) on_durable(image_);
}

void SimLogDisk::lose_synced() {
  RaftImage& log = image_.log;
  for (int i = 0; i < 3 && !log.entries.empty() && log.last() > log.snapshot.index; ++i) {
    log.entries.pop_back();
  }
}

void SimLogDisk::tell_early() {
  uint64_t token = 0;
  for (const Step& step : under_way_) token = std::max(token, step.write.token);
  if (token == 0) return;
  strand_.post([this, token] {
    if (!ended_) events_->written(token);
  });
}

Duration SimLogDisk::moment() {
  const auto spread = static_cast<uint64_t>((weather_.write_max - weather_.write_min).count());
  return weather_.write_min + Duration(rng_.below(spread + 1));
}

void SimLogDisk::start(raft::DiskEvents& events) {
  events_ = &events;
  strand_.after(kLookAfter, [this] { look_after(); });
}

void SimLogDisk::write(raft::Write write) {
  if (ended_) return;
  queue_.push_back({.write = std::move(write)});
  begin();
}

bool SimLogDisk::waits_for_room(const Step& step) const {
  return weather_.full && raft::needs_room(step.write);
}

// Steps up to the first that has to wait for room; snapshots, which make some, overtake it.
void SimLogDisk::begin() {
  if (busy_ || queue_.empty()) return;
  std::deque<Step> held;
  for (Step& step : std::exchange(queue_, {})) {
    const bool waits = waits_for_room(step) || (!held.empty() && !step.snapshot);
    (waits ? held : under_way_).push_back(std::move(step));
  }
  queue_ = std::move(held);
  busy_ = true;
  if (mutant == SimMutant::kDiskTellsEarly) tell_early();
  strand_.after(moment(), [this] { finish(); });
}

void SimLogDisk::finish() {
  if (ended_) return;
  if (weather_.stuck) {
    strand_.after(Duration(10ms), [this] { finish(); });
    return;
  }
  if (weather_.fails) {
    under_way_.clear();
    return events_->failed(internal_error("injected: the disk failed"));
  }
  std::deque<Step> done = std::exchange(under_way_, {});
  const bool all_wait = done.empty();
  for (Step& step : done) put(step);
  if (!done.empty() && on_durable) on_durable(image_);
  busy_ = false;
  tell_room();
  uint64_t token = 0;
  for (const Step& step : done) token = std::max(token, step.write.token);
  if (token != 0) events_->written(token);
  for (Step& step : done) {
    if (step.done) step.done(ok_status());
  }
  if (!all_wait) begin();  // else look_after() does
}

void SimLogDisk::tell_room() {
  if (ended_ || weather_.full == told_full_) return;
  told_full_ = weather_.full;
  events_->room(told_full_ ? Status(StatusCode::kResourceExhausted, "the disk is full", "disk-full")
                           : ok_status());
}

// Nothing may be written that would show that it is full, or not any more.
void SimLogDisk::look_after() {
  if (ended_) return;
  tell_room();
  begin();
  strand_.after(kLookAfter, [this] { look_after(); });
}

void SimLogDisk::put(Step& step) {
  if (!step.snapshot) {
    if (step.write.install) {
      const auto name = std::pair(step.write.install->index, step.write.install->term);
      MUSTER_CHECK(image_.snapshots.contains(name), "a snapshot is installed that is not there");
    }
    const bool installs = step.write.install.has_value();
    if (mutant == SimMutant::kInstallNotKept) step.write.install.reset();
    MUSTER_CHECK(image_.log.write(step.write), "a step does not fit the log");
    if (installs) forget_other_snapshots();
    return;
  }
  const Status status = set_snapshot(*step.snapshot, step.keep_from);
  if (!status.ok() && step.done) std::exchange(step.done, nullptr)(status);
}

Status SimLogDisk::set_snapshot(const raft::SnapshotMark& mark, raft::Index keep_from) {
  RaftImage& log = image_.log;
  if (mark.index <= log.snapshot.index || mark.index > log.last() || mark.index <= log.base_index) {
    image_.snapshots.erase({mark.index, mark.term});
    return failed_precondition("the log begins later already");
  }
  MUSTER_CHECK(log.entries[mark.index - log.base_index - 1].term == mark.term);
  log.snapshot = mark;
  const raft::Index base = std::min(mark.index, std::max(keep_from, log.base_index + 1) - 1);
  if (base > log.base_index) {
    const auto count = static_cast<ptrdiff_t>(base - log.base_index);
    log.base_term = log.entries[base - log.base_index - 1].term;
    log.entries.erase(log.entries.begin(), log.entries.begin() + count);
    log.base_index = base;
  }
  forget_other_snapshots();
  return ok_status();
}

void SimLogDisk::forget_other_snapshots() {
  const std::pair kept(image_.log.snapshot.index, image_.log.snapshot.term);
  std::erase_if(image_.snapshots, [&](const auto& entry) { return entry.first < kept; });
}

void SimLogDisk::take_snapshot(raft::SnapshotMark mark, raft::Index keep_from,
                               raft::SnapshotProducer produce, UniqueFunction<void(Status)> done) {
  strand_.after(moment() * 3, [this, mark = std::move(mark), keep_from,
                               produce = std::move(produce), done = std::move(done)]() mutable {
    if (ended_) return;
    Sink sink(image_, {mark.index, mark.term}, mutant == SimMutant::kSnapshotWithoutTail);
    Status status = produce([&](std::string_view chunk) { return sink.add(chunk); });
    if (status.ok()) status = sink.finish();
    if (!status.ok()) return done(std::move(status));
    Step step;
    step.snapshot = std::move(mark);
    step.keep_from = keep_from;
    step.done = std::move(done);
    queue_.push_back(std::move(step));
    begin();
  });
}

Result<std::unique_ptr<raft::SnapshotSource>> SimLogDisk::open_snapshot(raft::Index index,
                                                                        raft::Term term) {
  const auto found = image_.snapshots.find({index, term});
  if (found == image_.snapshots.end()) return fail(not_found("no snapshot at entry {}", index));
  return std::make_unique<Source>(found->second);
}

Result<std::unique_ptr<raft::SnapshotSink>> SimLogDisk::receive_snapshot(
    const raft::SnapshotMark& mark) {
  return std::make_unique<Sink>(image_, std::pair(mark.index, mark.term));
}

void SimLogDisk::stop() {
  if (std::exchange(ended_, true)) return;
  for (Step& step : under_way_) put(step);
  for (Step& step : queue_) {
    if (waits_for_room(step)) break;
    if (!step.snapshot) put(step);
  }
  under_way_.clear();
  queue_.clear();
  if (on_durable) on_durable(image_);
}

}  // namespace muster::sim
