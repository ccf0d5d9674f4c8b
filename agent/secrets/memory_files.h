#pragma once

#include <string>
#include <utility>
#include <vector>

#include "agent/secrets/payload_files.h"
#include "base/status.h"

namespace muster::agent {

// The real ones: one memory file system for each container under `directory`. README.md tells why
// and what of.
class MemoryFiles final : public PayloadFiles {
 public:
  explicit MemoryFiles(std::string directory) : directory_(std::move(directory)) {}

  Result<std::vector<std::string>> write(const std::string& container_id,
                                         const std::vector<MemoryFile>& files) override;
  // Unmounts, too.
  Status remove(const std::string& container_id) override;
  std::vector<std::string> list() override;

 private:
  std::string path(const std::string& container_id) const {
    return directory_ + "/" + container_id;
  }

  std::string directory_;
};

}  // namespace muster::agent
