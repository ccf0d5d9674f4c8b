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

// The files of secrets and configs that containers are given, apart from every disk. Thread-safe as
// long as no two calls are for one container. Blocking, quick.
class PayloadFiles {
 public:
  // What one container may have, together.
  static constexpr size_t kContainerBytesMax = 256 << 20;

  virtual ~PayloadFiles() = default;

  // Replaces whatever the container had. The paths on the host, in the order of the files.
  virtual Result<std::vector<std::string>> write(const std::string& container_id,
                                                 const std::vector<MemoryFile>& files) = 0;
  // Overwrites and deletes. OK when there is nothing.
  virtual Status remove(const std::string& container_id) = 0;
  // Containers that have files, or that a crash has left something of; sorted.
  virtual std::vector<std::string> list() = 0;
};

}  // namespace muster::agent
