#pragma once

#include <filesystem>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "agent/images/catalog.h"
#include "base/log.h"
#include "base/status.h"

namespace muster::agent {

// The writable root file systems of containers: roots/<container id>/{root.json,upper,work,merged}.
// root.json, written before the mount, names the image: it is the container's reference on it, and
// outlives the process. Thread-safe.
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

 private:
  const std::filesystem::path dir_;
  const std::filesystem::path layers_dir_;
  const Log log_;
  mutable std::mutex mutex_;
  std::map<std::string, std::string> users_;  // container id -> image digest
};

}  // namespace muster::agent
