#pragma once

#include <filesystem>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "agent/images/catalog.h"
#include "base/log.h"
#include "base/status.h"

namespace muster::agent {

// The writable root file systems of containers: roots/<container id>/{root.json,upper,work,merged}.
// root.json, written before the mount, names the image and its layers: it is the container's
// reference on them, and outlives the process and even the image's name. Thread-safe.
class ContainerRoots {
 public:
  ContainerRoots(std::filesystem::path dir, std::filesystem::path layers_dir, Log log)
      : dir_(std::move(dir)), layers_dir_(std::move(layers_dir)), log_(std::move(log)) {}

  // Reads which containers there are; deletes roots that were never finished.
  Status open();

  // Mounts the image's layers with a writable one on top; gives the path. Again for the same
  // container: mounts what is not mounted (a reboot) and gives the same path.
  Result<std::string> mount(const ImageRecord& image, const std::string& container_id);
  Status unmount(const std::string& container_id);

  std::vector<std::string> containers() const;
  // By image digest: the containers that use it, sorted.
  std::vector<std::string> users_of(const std::string& image_digest) const;
  // Diff ids of all layers that some container stands on.
  std::set<std::string> layers() const;

 private:
  struct Root {
    std::string image;  // digest
    std::vector<std::string> diff_ids;
  };

  const std::filesystem::path dir_;
  const std::filesystem::path layers_dir_;
  const Log log_;
  mutable std::mutex mutex_;
  std::map<std::string, Root> roots_;  // by container id
};

}  // namespace muster::agent
