#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "agent/worker/host_files.h"
#include "base/status.h"
#include "overlay/dataplane/node_network.h"

namespace muster::agent {

// What the managers told of networks last, so that a musterd that is started while no manager
// answers goes on with it: <directory>/<network id>, a line "muster-network 1 <number>\n" and a
// complete NetworkFeed, and <directory>/<network id>.<number>, numbered on, for what came after it.
// Not synced: after a crash of the host the kernel has nothing of it, either. Blocking, quick;
// thread-safe as long as no two calls are for one network.
class FeedFiles {
 public:
  // So many increments are kept before the whole is written anew.
  static constexpr size_t kIncrementsMax = 32;

  FeedFiles(HostFiles& files, std::string directory)
      : files_(files), directory_(std::move(directory)) {}

  // Everything, per network in the order it came. What cannot be read ends its network there and is
  // removed. Before anything else.
  Result<std::vector<overlay::NetworkStep>> load();
  // Increments without a whole before them are not kept.
  Status save(const overlay::NetworkStep& step);
  // Whether the next step kept of this network should be a complete one.
  bool wants_whole(const std::string& network_id) const;
  Status remove(const std::string& network_id);

 private:
  struct Kept {
    // Of the last step. Goes on after remove(): what could not be removed then is never taken for
    // an increment of what comes later.
    uint64_t number = 0;
    size_t increments = 0;
    bool whole = false;
  };
  std::string path(const std::string& network_id) const { return directory_ + "/" + network_id; }
  void drop_increments(const std::string& network_id, const Kept& kept);

  HostFiles& files_;
  std::string directory_;
  mutable std::mutex mutex_;
  std::map<std::string, Kept> kept_;  // by network id; guarded by mutex_
};

}  // namespace muster::agent
