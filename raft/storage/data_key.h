#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "base/security/aead.h"
#include "base/status.h"

namespace muster::raft {

// The key that everything in a log directory is encrypted with, and the log's random name, which is
// authenticated with every record so that records of another log are not taken for its own.
class DataKey {
 public:
  // Reads `file`, or makes it (mode 0600, synced) when `may_create`. FAILED_PRECONDITION when
  // others than the owner can read it or its version is unknown; NOT_FOUND when it is gone and may
  // not be made, since a log without its key is lost.
  static Result<DataKey> load(const std::filesystem::path& file, bool may_create);

  uint8_t id() const { return id_; }
  const std::string& log_name() const { return log_name_; }
  const security::Aead& aead() const { return *aead_; }

  // What is authenticated with a record: log name, kind of record, and two numbers (index and term
  // of an entry; index and frame of a snapshot).
  std::string aad(std::string_view kind, uint64_t first, uint64_t second) const;

 private:
  uint8_t id_ = 1;
  std::string log_name_;
  std::shared_ptr<const security::Aead> aead_;
};

}  // namespace muster::raft
