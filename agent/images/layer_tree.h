#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "base/unique_fd.h"

namespace muster::agent {

// Who owns a file of a layer and what else hangs on it.
struct FileAttributes {
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint32_t mode = 0644;  // permission bits with setuid, setgid, sticky
  timespec mtime{};
  std::vector<std::pair<std::string, std::string>> xattrs;
};

// The directory a layer is unpacked into. Whatever names it is given, nothing outside the directory
// is read or changed: a path is walked component by component without following symbolic links, so
// a hostile layer cannot plant a link and write through it. Names with "..", through links and
// through files are DATA_LOSS with the name. Single-threaded.
class LayerTree {
 public:
  // `root` is an open directory. `depth_max` bounds the components of a path.
  LayerTree(UniqueFd root, size_t depth_max) : root_(std::move(root)), depth_max_(depth_max) {}

  // Every make_* replaces what has the name already, but a directory over a directory is kept and
  // gets the new attributes. Missing parents are made, root's, 0755.
  Status make_directory(std::string_view path, const FileAttributes& attributes);
  Status make_symlink(std::string_view path, const std::string& target,
                      const FileAttributes& attributes);
  Status make_node(std::string_view path, mode_t type, dev_t device,
                   const FileAttributes& attributes);
  Status make_hard_link(std::string_view path, std::string_view target);
  // An empty file, open for writing; the caller fills it and passes it to finish_file.
  Result<UniqueFd> make_file(std::string_view path);
  Status finish_file(int fd, std::string_view path, const FileAttributes& attributes);

  // Hides `path` of the layers below: a 0:0 character device, or an opaque mark on a directory
  // that this layer itself has put there.
  Status make_whiteout(std::string_view path);
  // Hides everything of the layers below in the directory `path`.
  Status make_opaque(std::string_view path);

  // Directory times, which making their children has changed. Call once, last.
  Status finish();

 private:
  struct Place {
    int parent = -1;   // borrowed
    std::string name;  // empty: the root itself
  };
  enum class Missing { kCreate, kFail };

  Result<std::vector<std::string>> split(std::string_view path) const;
  Result<Place> locate(std::string_view path, Missing missing);
  Result<UniqueFd> open_directory(std::string_view path);
  Status clear(const Place& place, std::string_view path);
  Status apply(int fd, std::string_view path, const FileAttributes& attributes);
  Status set_opaque(const Place& place, std::string_view path);

  UniqueFd root_;
  size_t depth_max_;
  // The parent used last: entries of a directory usually follow each other.
  std::vector<std::string> cached_path_;
  UniqueFd cached_fd_;
  std::vector<std::pair<std::string, timespec>> directory_times_;
};

}  // namespace muster::agent
