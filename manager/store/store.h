#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/executor.h"
#include "base/log.h"
#include "base/status.h"
#include "base/unique_function.h"
#include "manager/store/proposer.h"
#include "manager/store/snapshot.h"

namespace muster::manager::store {

// One transaction: reads see the committed state plus what this and earlier transactions of the
// same entry wrote. Valid only inside the closure it is handed to.
class Transaction {
 public:
  // The state as this transaction sees it, its own writes included. Cheap to ask for.
  Snapshot view() const;

  // All three return ALREADY_EXISTS for a taken id or name, NOT_FOUND for a missing object. The
  // store sets meta; what the caller put there is ignored, except for update()'s version check:
  // object.meta().version() must be the stored one, else ABORTED "update out of sequence" (reason
  // "out-of-sequence").
  template <class T>
  Status create(T object);
  template <class T>
  Status update(T object);
  template <class T>
  Status remove(std::string_view id);

  // update() for a writer of many objects that holds what it has read: `object` takes the place of
  // `seen`, which must be what is stored, else ABORTED.
  template <class T>
  Status replace(const Ptr<T>& seen, T object);

  // Wall time of the entry being built; use it for every timestamp stored.
  WallTime now() const;

  struct Impl;  // internal to the store

 private:
  friend class Store;
  explicit Transaction(Impl& impl) : impl_(impl) {}
  Impl& impl_;
};

// What became of a transaction.
struct Commit {
  // OK: committed, readers see it. ABORTED, INVALID_ARGUMENT, ...: the closure's own status, or a
  // conflict; nothing was changed. UNKNOWN (reason "outcome-unknown"): leadership was lost under
  // way; the change may turn up. UNAVAILABLE (reason "not-leader"): certainly not done.
  Status status;
  uint64_t version = 0;   // of the store once committed
  std::string object_id;  // of the request (UpdateOptions), when it was answered from the store
};

struct UpdateOptions {
  // A client's request id: when the store already has its outcome the closure does not run and the
  // commit carries the recorded object id. Empty = not deduplicated. The object id recorded is
  // the closure's result.
  std::string request_id;
};

// One changed object of a commit. `before` is null for a creation, `after` for a removal.
template <class T>
struct Change {
  Ptr<T> before;
  Ptr<T> after;
};
using AnyChange =
    std::variant<Change<v1::Node>, Change<v1::Service>, Change<v1::Task>, Change<v1::Network>,
                 Change<v1::Secret>, Change<v1::Config>, Change<v1::Cluster>, Change<v1::Volume>,
                 Change<v1::Revision>, Change<v1::AppliedRequest>, Change<v1::Blob>>;

// One commit as watchers see it: every change since the commit before, in order, and the state
// after it.
struct CommitEvent {
  uint64_t version = 0;
  WallTime time;
  std::shared_ptr<const std::vector<AnyChange>> changes;
  Snapshot after;
};

// The cluster's state: tables in memory, changed only through the log.
//
// Group commit: at most one entry is in flight. Transactions that arrive meanwhile queue as
// closures; when it commits they run one after another against the new state, a failing one undoes
// only itself, and what they changed becomes the next entry (up to kEntryBytesMax; the rest waits
// for the one after). Readers see only committed snapshots.
//
// Strand: everything but snapshot() is called on the strand given at construction, and callbacks
// arrive there. snapshot() may be called from any thread.
class Store {
 public:
  static constexpr size_t kEntryBytesMax = 1'500'000;
  static constexpr uint32_t kFeatureLevel = 1;

  // Does not own `proposer`, which may be null until lead() (a follower only applies).
  Store(Executor& strand, Proposer* proposer, Log log);
  ~Store();

  Snapshot snapshot() const;

  // Starts and ends leadership. Outside a term every update ends UNAVAILABLE at once;
  // end_leading() ends queued transactions UNAVAILABLE and the one in flight UNKNOWN.
  void lead(uint64_t term);
  void end_leading();
  bool leading() const;

  // Queues a transaction. `body` runs on the strand, later or from inside this call (when nothing
  // is in flight and no commit is being delivered); it may run again only if its first run's
  // changes did not fit the entry. Views and objects it was shown are good only inside it:
  // meta.version of what this entry wrote is provisional until the commit gives it the index.
  // `done` runs exactly once (unless the store is destroyed first), never from inside this call,
  // after readers can see the result. The queue is bounded by kQueuedTransactionsMax; beyond, the
  // commit is RESOURCE_EXHAUSTED, as it is for changes above kEntryBytesMax in one transaction.
  static constexpr size_t kQueuedTransactionsMax = 100'000;
  using Body = UniqueFunction<Status(Transaction&)>;
  using Done = UniqueFunction<void(const Commit&)>;
  void update(Body body, Done done);
  void update(UpdateOptions options, UniqueFunction<Result<std::string>(Transaction&)> body,
              Done done);

  // Transactions run for one entry at most, so that a long queue does not hold the strand.
  static constexpr size_t kEntryTransactionsMax = 5'000;
  // How long a client's request id is remembered; collected with a later entry.
  static constexpr Duration kRequestsKept = 1h;

  // Applies an entry that came through the log without having been proposed here: replay at start,
  // a follower's entries, and a proposal of ours that ended UNKNOWN and was committed after all.
  // Not while a proposal is in flight. FAILED_PRECONDITION with reason "feature-level" when the
  // entry needs a newer member; DATA_LOSS when it does not parse.
  Status apply(uint64_t index, std::string_view entry);

  // Whole-state transfer. save() visits every object as serialised StoreSnapshotChunk messages of
  // about `chunk_bytes`, from a snapshot, on any thread. load() replaces everything.
  static Status save(const Snapshot& snapshot, size_t chunk_bytes,
                     const std::function<Status(std::string chunk)>& sink);
  Status load_begin();
  Status load_chunk(std::string_view chunk);
  Status load_end();

  // Calls `watcher` on the strand after every commit whose version is above `after_version`
  // (kept history first, never from inside this call, then live ones). OUT_OF_RANGE when history
  // does not reach that far back, or the version is still to come. A watcher must be quick; slow
  // readers copy the event and go elsewhere. The handle unsubscribes when destroyed. Kept history
  // has no changes of blobs, and every state in it the blobs of the present.
  class Subscription {
   public:
    Subscription() = default;
    Subscription(Subscription&&) noexcept;
    Subscription& operator=(Subscription&&) noexcept;
    ~Subscription();

    struct Link;  // internal to the store

   private:
    friend class Store;
    std::shared_ptr<Link> link_;
  };
  Result<Subscription> watch(uint64_t after_version,
                             UniqueFunction<void(const CommitEvent&)> watcher);
  // The same from the present version on; cannot fail.
  Subscription watch(UniqueFunction<void(const CommitEvent&)> watcher);

  // Where a watch has to begin to see what was committed at `time` or later, by the leaders' clock,
  // as far as history reaches; `complete` when it reaches that far.
  struct HistoryStart {
    uint64_t after_version = 0;
    bool complete = false;
  };
  HistoryStart history_since(WallTime time) const;

  // Commits kept for watch resume: those of the cluster's event_retention_ns, and as many of them
  // as memory may hold.
  static constexpr size_t kHistoryCommitsMax = 10'000;
  static constexpr Duration kHistoryKept = 1h;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace muster::manager::store
