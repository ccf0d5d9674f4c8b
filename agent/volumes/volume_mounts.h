#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "agent/volumes/driver_options.h"
#include "base/status.h"
#include "base/unique_fd.h"

namespace muster::agent {

struct MountPoint {
  std::string path;
  bool shared = false;  // (un)mounting below it shows in its peers too
};

// Mount points at or below `path` (canonical), as the kernel lists them: oldest first, one entry
// for each of several mounts on one place. Never touches the file systems themselves, so a dead
// NFS server does not block it.
Result<std::vector<MountPoint>> mounts_below(const std::filesystem::path& path);

// Mounts on `target`; names of network file systems are resolved first. The mount is private unless
// its options say otherwise. The error names device and target, but not the options: there may be
// a password among them.
Status mount_volume(const VolumeMount& mount, const std::filesystem::path& target);

// Unmounts everything at or below `path`. Lazily: a file system that does not answer cannot hold
// us, and what still uses it keeps it until it closes it. Never unmounts anything elsewhere (mounts
// inside a recursive bind have peers at their origin). OK when nothing is mounted.
Status unmount_below(const std::filesystem::path& path);

// Opens `path` inside the directory `root` as O_PATH; symlinks are followed as if `root` were the
// root directory, so neither they nor ".." lead out.
Result<UniqueFd> open_in_root(const std::filesystem::path& root, const std::string& path);

// Binds what `source` refers to on `target`, which is made as a directory or file to match. A
// descriptor, not a path: what a container does to the path meanwhile makes no difference.
Status bind_descriptor(int source, const std::filesystem::path& target);

}  // namespace muster::agent
