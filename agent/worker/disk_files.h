#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "agent/worker/host_files.h"

namespace muster::agent {

// The real ones.
class DiskFiles final : public HostFiles {
 public:
  Status make_directory(const std::string& path, unsigned mode) override;
  Status write(const std::string& path, std::string_view text, unsigned mode,
               Durability durability) override;
  Result<std::string> read(const std::string& path, size_t bytes_max) override;
  bool exists(const std::string& path) override;
  Result<std::vector<std::string>> list(const std::string& directory) override;
  void remove_temporaries(const std::string& directory) override;
  Status rename(const std::string& from, const std::string& to) override;
  Status remove(const std::string& path) override;
};

}  // namespace muster::agent
