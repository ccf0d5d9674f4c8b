#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "muster/v1/local.pb.h"
#include "muster/v1/specs.pb.h"

namespace muster::agent {

// The node's local volumes: directories under <data-dir>/volumes/<name>/_data with a versioned
// description beside them. Calls block and are thread-safe.
class VolumeStore {
 public:
  virtual ~VolumeStore() = default;

  // Makes the volume present for a container, creating it with the mount's options when needed.
  // A volume just created (or empty) is filled from `rootfs`/`target` with ownership and modes,
  // as Docker does, unless `no_copy`. An empty source gets an anonymous volume that belongs to
  // the container. Returns the host directory to bind (subpath applied, never leaving the volume).
  virtual Result<std::string> acquire(const v1::Mount& mount, const std::string& rootfs,
                                      const std::string& container_id) = 0;
  // Drops the container's use of its volumes; anonymous ones are deleted. Idempotent.
  virtual Status release(const std::string& container_id) = 0;

  virtual Result<std::vector<v1::LocalVolume>> list() = 0;
  virtual Result<v1::LocalVolume> create(const v1::CreateVolumeRequest& request) = 0;
  virtual Result<v1::LocalVolume> inspect(const std::string& name) = 0;
  // FAILED_PRECONDITION "volume is in use - [container ids]" unless unused; missing: NOT_FOUND
  // "no such volume" unless force.
  virtual Status remove(const std::string& name, bool force) = 0;
  virtual Result<v1::PruneVolumesResponse> prune(bool all) = 0;
};

}  // namespace muster::agent
