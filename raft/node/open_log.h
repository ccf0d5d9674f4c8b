#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "base/log.h"
#include "raft/core/core.h"
#include "raft/storage/log_store.h"

namespace rocksdb {
class Env;
}

namespace muster::raft {

// Where a log lies; as in RocksLogStore::Options.
struct LogFiles {
  std::filesystem::path dir;
  Log log;
  LogIdentity identity;
  std::optional<std::string> unlock_key;
  rocksdb::Env* env = nullptr;
  uint64_t free_bytes_min = 32 << 20;
  uint64_t reserve_bytes = 64 << 20;
  // The others are lost for good: this member is the group from now on (force_new_group()).
  std::optional<Member> alone;
};

struct OpenedLog {
  std::unique_ptr<LogStore> store;
  Restored restored;
};

// Opens the log or makes it, and reads it for a Node. Blocks. Errors as RocksLogStore::open().
Result<OpenedLog> open_log(LogFiles files);

}  // namespace muster::raft
