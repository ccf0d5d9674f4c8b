#include "raft/node/single_member.h"

#include <unistd.h>

#include <utility>

#include "base/check.h"
#include "raft/storage/snapshot_file.h"

namespace muster::raft {
namespace {

// The first byte of every payload, so that entries of the log's own (configurations, no-ops) can
// be told from its user's.
constexpr char kUserEntry = 1;

}  // namespace

SingleMember::SingleMember(Executor& strand, Options options, std::unique_ptr<RocksLogStore> store)
    : strand_(strand),
      on_fatal_(std::move(options.on_fatal)),
      log_(std::move(options.store.log)),
      key_(store->key()),
      dir_(store->dir()),
      store_(std::move(store)),
      term_(store_->hard_state().term),
      writer_(std::make_unique<ThreadExecutor>("log-writer")),
      snapshotter_(std::make_unique<ThreadExecutor>("log-snapshot")) {}

SingleMember::~SingleMember() {
  // The snapshotter first: it posts to the writer.
  snapshotter_->stop();
  writer_->stop();
}

Result<std::unique_ptr<SingleMember>> SingleMember::open(Executor& strand, Options options) {
  MUSTER_ASSIGN(std::unique_ptr<RocksLogStore> store, RocksLogStore::open(options.store));
  LogBatch batch;
  batch.has_hard_state = true;
  batch.hard_state = {.term = store->hard_state().term + 1, .vote = {}};
  MUSTER_TRY(store->append({batch}));
  return std::unique_ptr<SingleMember>(
      new SingleMember(strand, std::move(options), std::move(store)));
}

Status SingleMember::replay(const Replay& into) const {
  const StoredSnapshot& snapshot = store_->snapshot();
  if (snapshot.index != 0) {
    MUSTER_TRY(read_snapshot(dir_ / snapshot.file, key_, snapshot.index, into.snapshot_chunk));
    MUSTER_TRY(into.snapshot_end());
  }
  return store_->read(store_->first_index(), [&](LogEntry entry) -> Status {
    if (entry.payload.empty() || entry.payload[0] != kUserEntry) {
      return Status(StatusCode::kFailedPrecondition,
                    fmt::format("log entry {} is of a kind not known here: upgrade muster on this "
                                "node",
                                entry.index),
                    "feature-level");
    }
    return into.entry(entry.index, entry.payload.substr(1));
  });
}

void SingleMember::propose(uint64_t term, std::string payload,
                           UniqueFunction<void(ProposeResult)> done) {
  MUSTER_CHECK(strand_.is_current());
  payload.insert(payload.begin(), kUserEntry);
  bool first = false;
  {
    const std::lock_guard lock(mutex_);
    first = queue_.empty();
    queue_.push_back({term, std::move(payload), std::move(done)});
  }
  if (first) writer_->post([this] { write_queue(); });
}

// On the writer's thread: everything queued becomes one write.
void SingleMember::write_queue() {
  std::vector<Pending> batch;
  {
    const std::lock_guard lock(mutex_);
    batch.swap(queue_);
  }
  const uint64_t term = leading_term();
  std::vector<ProposeResult> results(batch.size());
  LogBatch writes;
  for (size_t i = 0; i < batch.size(); ++i) {
    if (term == 0 || batch[i].term != term) {
      results[i] = {Outcome::kRejected, 0,
                    Status(StatusCode::kUnavailable, "this member does not lead", "not-leader")};
      continue;
    }
    const uint64_t index = store_->last_index() + 1 + writes.entries.size();
    writes.entries.push_back({index, term, std::move(batch[i].payload)});
    results[i] = {Outcome::kCommitted, index, {}};
  }
  Status status;
  if (!writes.entries.empty()) status = store_->append({std::move(writes)});
  if (!status.ok()) {
    const bool refused = status.reason() == "disk-full";
    if (!refused) fatal(status);
    for (ProposeResult& result : results) {
      if (result.outcome != Outcome::kCommitted) continue;
      result = {refused ? Outcome::kRejected : Outcome::kUnknown, 0, status};
    }
  }
  answer(std::move(batch), std::move(results));
}

void SingleMember::answer(std::vector<Pending> batch, std::vector<ProposeResult> results) {
  strand_.post([weak = std::weak_ptr(alive_), batch = std::move(batch),
                results = std::move(results)]() mutable {
    for (size_t i = 0; i < batch.size() && !weak.expired(); ++i) {
      batch[i].done(std::move(results[i]));
    }
  });
}

void SingleMember::fatal(const Status& status) {
  term_.store(0, std::memory_order_relaxed);
  log_->error("the log's disk failed, nothing can be written safely any more: {}",
              status.message());
  if (!on_fatal_) _exit(70);
  on_fatal_(status);
}

void SingleMember::take_snapshot(uint64_t index, UniqueFunction<Status(const Sink& sink)> produce,
                                 UniqueFunction<void(Status)> done) {
  MUSTER_CHECK(strand_.is_current());
  if (snapshotting_) {
    strand_.post([done = std::move(done)]() mutable {
      done(failed_precondition("another snapshot is being written"));
    });
    return;
  }
  snapshotting_ = true;
  snapshotter_->post([this, index, produce = std::move(produce), done = std::move(done)]() mutable {
    auto file = write_snapshot(index, produce);
    if (!file) {
      end_snapshot(std::move(done), std::move(file).error());
      return;
    }
    writer_->post([this, index, file = *std::move(file), done = std::move(done)]() mutable {
      Status status = store_->set_snapshot(index, file);
      if (!status.ok() && status.code() != StatusCode::kFailedPrecondition) fatal(status);
      end_snapshot(std::move(done), std::move(status));
    });
  });
}

Result<std::string> SingleMember::write_snapshot(
    uint64_t index, UniqueFunction<Status(const Sink& sink)>& produce) {
  MUSTER_ASSIGN(SnapshotFileWriter writer, SnapshotFileWriter::create(dir_, key_, index));
  MUSTER_TRY(produce([&](std::string chunk) { return writer.add(chunk); }));
  return writer.finish();
}

void SingleMember::end_snapshot(UniqueFunction<void(Status)> done, Status status) {
  strand_.post([this, weak = std::weak_ptr(alive_), done = std::move(done),
                status = std::move(status)]() mutable {
    if (weak.expired()) return;
    snapshotting_ = false;
    done(std::move(status));
  });
}

}  // namespace muster::raft
