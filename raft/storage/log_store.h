#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "raft/core/core.h"
#include "raft/core/types.h"

namespace muster::raft {

inline constexpr size_t kSnapshotChunkBytesMax = 64 << 20;

// A snapshot on its way to the disk: of this member's own state, or received from another. One
// thread at a time, any. Destroyed before finish() it leaves nothing.
class SnapshotSink {
 public:
  virtual ~SnapshotSink() = default;
  // Not empty, up to kSnapshotChunkBytesMax; read back in the same pieces.
  virtual Status add(std::string_view chunk) = 0;
  // Complete and synced, beside the log. It counts once set_snapshot() or a Write's `install`
  // names it; if none does, it is gone after the next start.
  virtual Status finish() = 0;
};

// A snapshot's chunks in order. One thread at a time, any. Stays readable when the snapshot is
// replaced meanwhile.
class SnapshotSource {
 public:
  virtual ~SnapshotSource() = default;
  // Empty at the end, which is reached only when all of it was there. DATA_LOSS when a chunk is
  // damaged, missing or out of place.
  virtual Result<std::string> next() = 0;
};

// What a log is bound to: stated when it is made, authenticated with every record, and the same
// in every later life.
struct LogIdentity {
  std::string cluster_id;
  std::string node_id;
  MemberId member;

  friend bool operator==(const LogIdentity&, const LogIdentity&) = default;
};

enum class DiskRoom : uint8_t {
  kPlenty,
  kFull,  // proposals are refused; a leader hands over
};

// What a full disk does not take: what was proposed. Term, vote, the entry that begins a term and
// those of the group pass: they are small and few, and a group may need them to get rid of the
// member whose disk it is.
inline bool needs_room(const Entry& entry) {
  return entry.kind == EntryKind::kData;
}
inline bool needs_room(const Write& write) {
  return std::any_of(write.entries.begin(), write.entries.end(),
                     [](const Entry& entry) { return needs_room(entry); });
}

// What one member must not lose, in raft/core's words: term and vote, entries, the snapshot they
// begin after. On disk: RocksLogStore. Simulations replace raft/node/disk.h.
//
// Used by one thread at a time (the driver's log writer), but for create_snapshot() and
// open_snapshot(), which any thread may call.
//
// A failed write or sync is final: what is on the disk is unknown until the log is opened again
// (a repeated sync reports success for pages that are lost), so every further call fails and the
// process has to end. Errors with the reason "disk-full" are the exception.
class LogStore {
 public:
  virtual ~LogStore() = default;

  virtual const LogIdentity& identity() const = 0;
  virtual const HardState& hard_state() const = 0;
  virtual const SnapshotMark& snapshot() const = 0;  // index 0: none
  // Of the entries kept; first_index() <= snapshot().index + 1, last_index() >= first_index() - 1.
  virtual Index first_index() const = 0;
  virtual Index last_index() const = 0;
  virtual Term last_term() const = 0;

  // Everything, checked and decrypted, for Core's constructor. Before the first write.
  // DATA_LOSS, reason "log-corrupt", when something is damaged.
  virtual Result<Restored> restore() const = 0;

  // All of it, in order, with one synced write: after a crash all of it is there, or none.
  //  - `install`: its snapshot lies complete beside the log (SnapshotSink::finish()); log and older
  //    snapshot are replaced by it in the same step.
  //  - `entries`: those from the first one's index on are replaced in the same step.
  // RESOURCE_EXHAUSTED, reason "disk-full": so little room is left that even what was accepted
  // before the disk was full (room()) has none: nothing was written, the log goes
  // on, and the same steps may be tried again; steps without such entries still pass.
  virtual Status write(const std::vector<const Write*>& writes) = 0;

  // This member's own snapshot of the state after mark.index, which finish() completed: the log may
  // begin after it from now on. Entries from `keep_from` on stay for members that are a little
  // behind; those before go, and their space with them.
  // FAILED_PRECONDITION when the log has no such entry (any more): a newer snapshot came in
  // between; the file is removed and the log goes on.
  virtual Status set_snapshot(const SnapshotMark& mark, Index keep_from) = 0;

  // To be called now and then when there is nothing to write (a second is a good pace): keeps the
  // watermark beside the log near, makes room when the disk is full, sets it aside when it is not.
  virtual void settle() = 0;
  virtual DiskRoom room() const = 0;  // any thread

  // New records are encrypted with a fresh key from now on. The old one is forgotten with the last
  // record and snapshot that need it: take a snapshot to hurry it.
  virtual Status rotate_data_key() = 0;
  // How many data keys are still needed; 1 when no rotation is under way.
  virtual size_t data_keys() const = 0;
  // Wraps the data keys on disk with another unlock key of 32 bytes, or with none (null).
  virtual Status rewrap(const std::optional<std::string>& unlock_key) = 0;

  // Any thread. Where a snapshot of the state after (index, term) goes.
  virtual Result<std::unique_ptr<SnapshotSink>> create_snapshot(Index index, Term term) = 0;
  // Any thread. NOT_FOUND when it was replaced, or never completed.
  virtual Result<std::unique_ptr<SnapshotSource>> open_snapshot(Index index, Term term) const = 0;
};

}  // namespace muster::raft
