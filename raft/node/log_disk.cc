#include "raft/node/log_disk.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace muster::raft {
namespace {

constexpr Duration kLookAfter = 1s;
// How much one write may carry: enough for the sync not to matter, and less than what is left of a
// disk when entries are refused.
constexpr size_t kStepsMax = 4'096;
constexpr size_t kBytesMax = 4 << 20;

}  // namespace

LogDisk::LogDisk(std::unique_ptr<LogStore> store) : store_(std::move(store)) {}

LogDisk::~LogDisk() {
  stop();
}

void LogDisk::start(DiskEvents& events) {
  MUSTER_CHECK(events_ == nullptr);
  events_ = &events;
  writer_.emplace("log-writer");
  snapshotter_.emplace("log-snapshot");
  writer_->post([this] { look_after(); });
}

void LogDisk::stop() {
  if (!writer_) return;
  // The snapshotter first: it posts to the writer.
  snapshotter_->stop();
  std::mutex ended_mutex;
  std::condition_variable ended;
  bool done = false;
  writer_->post([&] {
    write_queue();
    const std::lock_guard lock(ended_mutex);
    done = true;
    ended.notify_one();
  });
  {
    std::unique_lock lock(ended_mutex);
    ended.wait(lock, [&] { return done; });
  }
  writer_->stop();
  writer_.reset();
  snapshotter_.reset();
}

void LogDisk::write(Write write) {
  const std::lock_guard lock(mutex_);
  if (queue_.empty()) unheard_ = true;
  queue_.push_back(std::move(write));
}

void LogDisk::flush() {
  if (!unheard_.exchange(false)) return;
  writer_->post([this] { write_queue(); });
}

// On the writer's thread: everything queued becomes one write.
void LogDisk::write_queue() {
  {
    const std::lock_guard lock(mutex_);
    std::move(queue_.begin(), queue_.end(), std::back_inserter(waiting_));
    queue_.clear();
  }
  write_waiting();
}

void LogDisk::write_waiting() {
  bool held = false;
  while (!waiting_.empty() && !failed_ && !held) {
    std::vector<const Write*> steps = next_steps();
    Status status = store_->write(steps);
    if (status.reason() == "disk-full") {
      // Term and vote do not wait for entries that came after them. look_after() tries the others.
      held = true;
      steps.erase(
          std::find_if(steps.begin(), steps.end(), [](const Write* w) { return needs_room(*w); }),
          steps.end());
      if (steps.empty()) break;
      status = store_->write(steps);
    }
    if (!status.ok()) return fail_with(status);
    const uint64_t token = steps.back()->token;
    waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<ptrdiff_t>(steps.size()));
    events_->written(token);
  }
  tell_room();
}

std::vector<const Write*> LogDisk::next_steps() const {
  std::vector<const Write*> steps;
  size_t bytes = 0;
  for (const Write& step : waiting_) {
    if (steps.size() == kStepsMax || bytes >= kBytesMax) break;
    for (const Entry& entry : step.entries) bytes += entry.bytes().size();
    steps.push_back(&step);
  }
  return steps;
}

void LogDisk::tell_room() {
  const bool full = store_->room() == DiskRoom::kFull;
  if (full == full_ || failed_) return;
  full_ = full;
  events_->room(
      full ? Status(StatusCode::kResourceExhausted, "the disk of the log is full", "disk-full")
           : ok_status());
}

void LogDisk::look_after() {
  if (failed_) return;
  store_->settle();
  write_waiting();
  writer_->after(kLookAfter, [this] { look_after(); });
}

void LogDisk::fail_with(const Status& status) {
  if (std::exchange(failed_, true)) return;
  events_->failed(status);
}

void LogDisk::take_snapshot(SnapshotMark mark, Index keep_from, SnapshotProducer produce,
                            UniqueFunction<void(Status)> done) {
  snapshotter_->post([this, mark = std::move(mark), keep_from, produce = std::move(produce),
                      done = std::move(done)]() mutable {
    if (Status status = produce_snapshot(mark, produce); !status.ok()) {
      return done(std::move(status));
    }
    writer_->post([this, mark = std::move(mark), keep_from, done = std::move(done)]() mutable {
      if (failed_) return;
      const Status status = store_->set_snapshot(mark, keep_from);
      const bool harmless = status.ok() || status.code() == StatusCode::kFailedPrecondition ||
                            status.reason() == "disk-full";
      if (!harmless) return fail_with(status);
      done(status);
      tell_room();
    });
  });
}

Status LogDisk::produce_snapshot(const SnapshotMark& mark, SnapshotProducer& produce) {
  MUSTER_ASSIGN(const auto sink, store_->create_snapshot(mark.index, mark.term));
  MUSTER_TRY(produce([&](std::string_view chunk) { return sink->add(chunk); }));
  return sink->finish();
}

Result<std::unique_ptr<SnapshotSource>> LogDisk::open_snapshot(Index index, Term term) {
  return store_->open_snapshot(index, term);
}

Result<std::unique_ptr<SnapshotSink>> LogDisk::receive_snapshot(const SnapshotMark& mark) {
  return store_->create_snapshot(mark.index, mark.term);
}

void LogDisk::with_store(UniqueFunction<void(LogStore&)> f) {
  writer_->post([this, f = std::move(f)]() mutable { f(*store_); });
}

}  // namespace muster::raft
