#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/unique_fd.h"
#include "raft/storage/log_store.h"

namespace muster::raft {

class KeyRing;
struct LogDb;
struct LogMeta;

// A look at a log that nobody uses, whole or damaged, which changes nothing. One thread.
class LogInspection {
 public:
  // FAILED_PRECONDITION: a process uses it ("in-use"), another format. UNAVAILABLE ("locked"): its
  // keys are wrapped and no unlock key is given; UNAUTHENTICATED ("wrong-unlock-key"): it is
  // another. NOT_FOUND: no log.
  // DATA_LOSS: too damaged to show anything.
  static Result<std::unique_ptr<LogInspection>> open(const std::filesystem::path& dir,
                                                     std::optional<std::string> unlock_key);
  ~LogInspection();

  struct SnapshotFile {
    std::string name;
    uint64_t bytes = 0;
    bool current = false;  // the one that the log begins after; others are left over
  };

  const LogIdentity& identity() const;
  const HardState& hard_state() const;
  const SnapshotMark& snapshot() const;
  Index first_index() const;
  Index last_index() const;
  Term last_term() const;
  uint64_t steps() const;  // writes that the log ever took
  size_t data_keys() const;
  bool wrapped() const;
  // Sorted by name.
  const std::vector<SnapshotFile>& files() const { return files_; }
  // What is damaged or gone; OK when all that was acknowledged is there.
  const Status& damage() const { return damage_; }

  // Entries from `from` to `to`, as far as there are any; stops at the first that does not decrypt.
  Status entries(Index from, Index to,
                 const std::function<void(const Entry& entry, size_t stored_bytes)>& visit) const;
  // Reads the current snapshot to its end: its chunks and bytes.
  struct SnapshotSize {
    uint64_t chunks = 0;
    uint64_t bytes = 0;
  };
  Result<SnapshotSize> read_snapshot() const;

 private:
  LogInspection();

  std::filesystem::path dir_;
  UniqueFd lock_;
  std::shared_ptr<KeyRing> ring_;
  std::unique_ptr<LogDb> db_;
  std::unique_ptr<LogMeta> meta_;
  std::vector<SnapshotFile> files_;
  Status damage_;
};

}  // namespace muster::raft
