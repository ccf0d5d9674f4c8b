#include "manager/store/durable/durable_store.h"

#include <utility>

namespace muster::manager::store {
namespace {

constexpr size_t kSnapshotChunkBytes = 512 << 10;

}  // namespace

Result<std::unique_ptr<DurableStore>> DurableStore::open(Executor& strand, Options options) {
  raft::SingleMember::Options member;
  member.store.dir = options.dir;
  member.store.log = options.log;
  member.store.env = options.env;
  member.store.free_bytes_min = options.free_bytes_min;
  member.store.reserve_bytes = options.reserve_bytes;
  member.on_fatal = options.on_fatal;
  MUSTER_ASSIGN(auto log, raft::SingleMember::open(strand, std::move(member)));
  std::unique_ptr<DurableStore> durable(new DurableStore(strand, options, std::move(log)));
  MUSTER_TRY(durable->replay());
  durable->start();
  return durable;
}

DurableStore::DurableStore(Executor& strand, const Options& options,
                           std::unique_ptr<raft::SingleMember> member)
    : log_(options.log),
      snapshot_entries_(options.snapshot_entries),
      member_(std::move(member)),
      proposer_(*member_),
      store_(strand, &proposer_, options.log) {}

DurableStore::~DurableStore() = default;

Status DurableStore::replay() {
  bool loading = false;
  raft::SingleMember::Replay into;
  into.snapshot_chunk = [&](std::string chunk) -> Status {
    if (!std::exchange(loading, true)) MUSTER_TRY(store_.load_begin());
    return store_.load_chunk(chunk);
  };
  into.snapshot_end = [&] { return store_.load_end(); };
  into.entry = [&](uint64_t index, std::string payload) {
    ++entries_since_snapshot_;
    return store_.apply(index, payload);
  };
  return member_->replay(into);
}

void DurableStore::start() {
  store_.lead(member_->leading_term());
  subscription_ = store_.watch([this](const CommitEvent&) { count_entry(); });
}

void DurableStore::count_entry() {
  if (++entries_since_snapshot_ < snapshot_entries_ || snapshotting_) return;
  take_snapshot([this](Status status) {
    if (!status.ok()) log_->warn("cannot take a snapshot of the store: {}", status.message());
  });
}

void DurableStore::take_snapshot(UniqueFunction<void(Status)> done) {
  const Snapshot snapshot = store_.snapshot();
  snapshotting_ = true;
  // A failed one is tried again after as many entries.
  entries_since_snapshot_ = 0;
  member_->take_snapshot(
      snapshot.version(),
      [snapshot](const raft::SingleMember::Sink& sink) {
        return Store::save(snapshot, kSnapshotChunkBytes, sink);
      },
      [this, done = std::move(done)](Status status) mutable {
        snapshotting_ = false;
        done(std::move(status));
      });
}

}  // namespace muster::manager::store
