#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/status.h"

namespace muster::agent {

// The host's files as the worker uses them: the records of its tasks and what containers find in
// their folders. Calls block, but not for long; thread-safe as long as no two are for one path.
class HostFiles {
 public:
  virtual ~HostFiles() = default;

  // With its parents; OK when it is there.
  virtual Status make_directory(const std::string& path, unsigned mode) = 0;
  // A reader, or a killed process, sees the old text or the new one.
  virtual Status write(const std::string& path, std::string_view text, unsigned mode,
                       Durability durability) = 0;
  // NOT_FOUND when there is none, RESOURCE_EXHAUSTED when it is longer.
  virtual Result<std::string> read(const std::string& path, size_t bytes_max) = 0;
  virtual bool exists(const std::string& path) = 0;
  // Names in a directory, sorted; none when the directory is not there.
  virtual Result<std::vector<std::string>> list(const std::string& directory) = 0;
  // Deletes what killed writers left in the directory; nobody may be writing there.
  virtual void remove_temporaries(const std::string& directory) = 0;
  virtual Status rename(const std::string& from, const std::string& to) = 0;
  // A file, or a directory with all it holds (base/remove_tree.h); OK when there is none.
  virtual Status remove(const std::string& path) = 0;
};

}  // namespace muster::agent
