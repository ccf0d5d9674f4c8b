#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"

namespace muster::agent {

// A file as a container is to see it.
struct MemoryFile {
  std::string data;
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint32_t mode = 0444;  // exactly: 0 is a file that only root reads
};

// Files in memory, one file system for each container under `directory`: README.md tells why and
// what of. Thread-safe as long as no two calls are for one container. Blocking, quick.
class MemoryFiles {
 public:
  // What one container may have, together.
  static constexpr size_t kContainerBytesMax = 256 << 20;

  explicit MemoryFiles(std::string directory) : directory_(std::move(directory)) {}

  // Replaces whatever the container had. The paths on the host, in the order of the files.
  Result<std::vector<std::string>> write(const std::string& container_id,
                                         const std::vector<MemoryFile>& files) const;
  // Overwrites, unlinks and unmounts. OK when there is nothing.
  Status remove(const std::string& container_id) const;
  // Containers that have files, or that a crash has left something of.
  std::vector<std::string> list() const;

 private:
  std::string path(const std::string& container_id) const {
    return directory_ + "/" + container_id;
  }

  std::string directory_;
};

}  // namespace muster::agent
