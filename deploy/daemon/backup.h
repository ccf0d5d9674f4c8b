#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "base/security/aead.h"
#include "base/status.h"

namespace muster::daemon {

// A swarm's state as a backup holds it.
struct BackupState {
  std::string cluster_id;
  uint64_t version = 0;             // of the store
  std::vector<std::string> chunks;  // StoreSnapshotChunk messages
};

// A backup file: a header that says how the key comes from the passphrase (scrypt), then frames of
// AES-256-GCM. Each frame authenticates the header, its number and whether it is the last one, so
// that frames cannot be changed, left out, moved, or taken from another backup, and a file that was
// cut off is not taken for a whole one. docs/backup.md has the bytes.
//
// The state's frames: the first tells cluster and version, the others have one chunk each.
class BackupWriter {
 public:
  // Takes the time and memory (32 MiB) that scrypt is made to take.
  static Result<BackupWriter> create(std::string_view passphrase, const std::string& cluster_id,
                                     uint64_t version);
  // What the file begins with.
  const std::string& beginning() const { return beginning_; }
  Result<std::string> chunk(std::string_view chunk);
  // What the file ends with.
  Result<std::string> end();

 private:
  BackupWriter(security::Aead aead, std::string header);
  Result<std::string> frame(std::string_view plain, bool last);

  security::Aead aead_;
  std::string header_;
  std::string beginning_;
  uint64_t frames_ = 0;
};

// Reads a backup that comes in pieces of any size.
class BackupReader {
 public:
  explicit BackupReader(std::string passphrase) : passphrase_(std::move(passphrase)) {}
  ~BackupReader();

  // INVALID_ARGUMENT: no backup, or of a newer version. UNAUTHENTICATED: another passphrase.
  // DATA_LOSS: damaged. RESOURCE_EXHAUSTED: larger than any backup is.
  Status add(std::string_view piece);
  // DATA_LOSS when the end is missing.
  Result<BackupState> finish();

 private:
  Status read_header();
  Status read_frame(size_t length, bool last);

  std::string passphrase_;
  std::string buffer_;
  std::string header_;
  std::vector<security::Aead> aead_;  // one, once the header was read
  uint64_t frames_ = 0;
  uint64_t bytes_ = 0;
  bool ended_ = false;
  BackupState state_;
};

}  // namespace muster::daemon
