#pragma once

#include <filesystem>
#include <memory>

#include "agent/volumes/volume_store.h"
#include "base/log.h"

namespace muster::agent {

struct VolumeStoreOptions {
  std::filesystem::path data_dir;  // volumes lie in <data_dir>/volumes
};

// The volumes of one node on its own disk, and Docker's "local" driver with its options. One store
// a data directory. README.md tells what lies where and what a crash leaves.
//
// Opening takes what it finds: unfinished creations and removals are cleared away, mounts that no
// container uses are undone, a volume whose description cannot be read is kept, listed and refused
// to containers.
Result<std::unique_ptr<VolumeStore>> make_volume_store(VolumeStoreOptions options, Log log);

}  // namespace muster::agent
