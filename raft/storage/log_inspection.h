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
  // another. NOT_FOUND: no log, or one without the key file that alone says whose it is.
  // Whatever else is damaged or gone is left out and said by damage().
  static Result<std::unique_ptr<LogInspection>> open(const std::filesystem::path& dir,
                                                     std::optional<std::string> unlock_key);
  ~LogInspection();
  // Whether `dir` looks like a log's own directory.
  static bool is_log(const std::filesystem::path& dir);

  struct SnapshotFile {
    std::string name;
    uint64_t bytes = 0;
    bool current = false;  // the one that the log begins after; others are left over
  };

  // What of the facts below could be read; the others are empty.
  struct Known {
    bool hard_state = false;
    bool snapshot = false;
    bool end = false;  // the last entry and the number of writes
  };
  const Known& known() const { return known_; }

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

  // Entries from `from` to `to`, as far as there are any that decrypt, also after a gap. `trouble`,
  // which may be null, hears in between what is missing or damaged; the first of that is the
  // result.
  Status entries(Index from, Index to,
                 const std::function<void(const Entry& entry, size_t stored_bytes)>& visit,
                 const std::function<void(const Status&)>& trouble = nullptr) const;
  // Reads the current snapshot to its end: its chunks and bytes.
  struct SnapshotSize {
    uint64_t chunks = 0;
    uint64_t bytes = 0;
  };
  Result<SnapshotSize> read_snapshot() const;

 private:
  LogInspection();
  void open_database();
  void read_facts();
  void list_files();
  void note(const Status& damage);

  std::filesystem::path dir_;
  UniqueFd lock_;
  std::shared_ptr<KeyRing> ring_;
  std::unique_ptr<LogDb> db_;  // null: nothing of it can be read
  std::unique_ptr<LogMeta> meta_;
  Known known_;
  std::vector<SnapshotFile> files_;
  Status damage_;
};

}  // namespace muster::raft
