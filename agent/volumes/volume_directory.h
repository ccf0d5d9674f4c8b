#pragma once

#include <cstdint>
#include <filesystem>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "muster/v1/local.pb.h"

namespace muster::agent {

// One volume's folder on disk:
//   volume        a line "muster-volume 1\n" (format name and version), then a LocalVolume
//   _data/        what containers see; with driver options, where the file system is mounted
//   uses/<id>     an empty file for each container that uses the volume
//   subpaths/     bind mounts of parts of _data, "<container id>.<n>"
//   filling       present while the volume is being filled from an image
class VolumeDirectory {
 public:
  explicit VolumeDirectory(std::filesystem::path path) : path_(std::move(path)) {}

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path data() const { return path_ / "_data"; }
  std::filesystem::path subpaths() const { return path_ / "subpaths"; }

  // DATA_LOSS when the description is damaged or of a newer format. A folder with nothing but
  // _data is a volume without options: somebody restored it by hand.
  Result<v1::LocalVolume> read() const;
  Result<std::set<std::string>> users() const;

  Status add_user(const std::string& container_id) const;
  Status remove_user(const std::string& container_id) const;

  bool is_filling() const;
  Status set_filling(bool filling) const;

  // The sum of the files' lengths, each inode once.
  uint64_t data_bytes() const;

 private:
  std::filesystem::path path_;
};

// <root>/<name> for each volume. A name that starts with a dot is no volume but one in the making
// or in removal; so creation and removal are single renames.
class VolumeRoot {
 public:
  explicit VolumeRoot(std::filesystem::path path) : path_(std::move(path)) {}

  VolumeDirectory volume(const std::string& name) const { return VolumeDirectory(path_ / name); }
  // Sorted.
  Result<std::vector<std::string>> names() const;

  // With `user`, the volume has this one from the start. Anonymous volumes are not synced to the
  // disk: they go with their container, which does not outlive the host either.
  Status create(const v1::LocalVolume& volume, const std::string& user) const;
  // Unmounts what is mounted in the folder, then deletes it. From the moment it returns, even with
  // an error of the deletion, there either is the whole volume or none of that name.
  Status remove(const std::string& name) const;
  // Deletes what crashes left behind.
  Status clear_leftovers() const;

 private:
  Status remove_folder(const std::filesystem::path& folder) const;

  std::filesystem::path path_;
};

}  // namespace muster::agent
