#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/security/aead.h"
#include "base/status.h"
#include "raft/storage/log_store.h"

namespace muster::raft {

// One key that records and snapshots are encrypted with. Thread-safe; wiped on destruction.
class DataKey {
 public:
  // `bytes`: Aead::kKeyBytes of them. `since`: the log's last index when it was made.
  static Result<std::shared_ptr<const DataKey>> create(uint8_t id, Index since, std::string bytes);
  ~DataKey();

  uint8_t id() const { return id_; }
  Index since() const { return since_; }
  const std::string& bytes() const { return bytes_; }
  const security::Aead& aead() const { return aead_; }

  DataKey(uint8_t id, Index since, std::string bytes, security::Aead aead);

 private:
  uint8_t id_;
  Index since_;
  std::string bytes_;
  security::Aead aead_;
};

// The key file of a log: what it is bound to, and the data keys, oldest first; the last one
// encrypts. Every change is a synced rewrite of the file before it takes effect. Thread-safe.
class KeyRing {
 public:
  // A new file (mode 0600, synced) with one fresh key. INVALID_ARGUMENT for ids with white space.
  static Result<std::shared_ptr<KeyRing>> create(const std::filesystem::path& file,
                                                 LogIdentity identity,
                                                 std::optional<std::string> unlock_key);
  // NOT_FOUND when there is none. FAILED_PRECONDITION when others than the owner can read it, when
  // its version is not known. security::swarm_locked() when it is wrapped and no unlock key is
  // given, security::wrong_unlock_key() when that is another. DATA_LOSS when it is damaged.
  static Result<std::shared_ptr<KeyRing>> load(const std::filesystem::path& file,
                                               std::optional<std::string> unlock_key);
  ~KeyRing();

  const LogIdentity& identity() const { return identity_; }
  // What is authenticated with everything encrypted: the log's name and identity, the kind of
  // thing, and its index and term.
  std::string aad(std::string_view kind, Index index, Term term) const;

  std::shared_ptr<const DataKey> current() const;
  std::shared_ptr<const DataKey> find(uint8_t id) const;  // null: not known
  size_t size() const;
  bool wrapped() const;

  // RESOURCE_EXHAUSTED when too many older keys are still needed.
  Status rotate(Index since);
  // Forgets every key but the current one, those in `needed`, and those somebody holds.
  Status retain(const std::set<uint8_t>& needed);
  Status rewrap(const std::optional<std::string>& unlock_key);

 private:
  explicit KeyRing(std::filesystem::path file) : file_(std::move(file)) {}
  void bind(LogIdentity identity, std::string log_name);
  Status parse(std::string_view text, const std::optional<std::string>& unlock_key);
  Status save(const std::vector<std::shared_ptr<const DataKey>>& keys,
              const std::optional<std::string>& unlock_key) const;

  const std::filesystem::path file_;
  LogIdentity identity_;
  std::string log_name_;  // random: records of another log are not taken for this one's
  std::string aad_prefix_;
  mutable std::mutex mutex_;
  std::vector<std::shared_ptr<const DataKey>> keys_;  // guarded by mutex_
  std::optional<std::string> unlock_key_;             // guarded by mutex_
};

}  // namespace muster::raft
