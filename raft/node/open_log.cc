#include "raft/node/open_log.h"

#include <utility>

#include "raft/node/node.h"
#include "raft/storage/rocks_log_store.h"

namespace muster::raft {

Result<OpenedLog> open_log(LogFiles files) {
  RocksLogStore::Options options;
  options.dir = std::move(files.dir);
  options.log = std::move(files.log);
  options.identity = std::move(files.identity);
  options.unlock_key = std::move(files.unlock_key);
  options.env = files.env;
  options.free_bytes_min = files.free_bytes_min;
  options.reserve_bytes = files.reserve_bytes;
  OpenedLog opened;
  MUSTER_ASSIGN(opened.store, RocksLogStore::open(std::move(options)));
  MUSTER_ASSIGN(opened.restored, opened.store->restore());
  if (files.alone) {
    const Write step = force_new_group(opened.restored, *std::move(files.alone));
    MUSTER_TRY(opened.store->write({&step}));
  }
  return opened;
}

}  // namespace muster::raft
