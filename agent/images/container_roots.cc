#include "agent/images/container_roots.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <boost/json/serialize.hpp>
#include <cerrno>
#include <thread>

#include "agent/images/json_view.h"
#include "base/file.h"
#include "base/remove_tree.h"

namespace muster::agent {
namespace {

namespace fs = std::filesystem;

constexpr int kFormat = 1;
// mount(2) takes its options in one page.
constexpr size_t kMountDataMax = 4095;

bool is_safe_id(const std::string& id) {
  return !id.empty() && id.size() <= 128 && id[0] != '.' &&
         std::all_of(id.begin(), id.end(), [](char c) {
           return std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.';
         });
}

bool is_mount_point(const fs::path& path) {
  struct stat inner {};
  struct stat outer {};
  return lstat(path.c_str(), &inner) == 0 && lstat(path.parent_path().c_str(), &outer) == 0 &&
         inner.st_dev != outer.st_dev;
}

// Mounts with lower directories named relative to `layers_dir`, which keeps 127 of them within the
// page. The working directory belongs to the thread that unshared it, so a thread of its own does
// it and the process's stays where it is.
Status mount_overlay(const fs::path& layers_dir, const std::string& data, const fs::path& target) {
  Status status;
  std::thread([&] {
    if (unshare(CLONE_FS) != 0 || chdir(layers_dir.c_str()) != 0) {
      status = errno_status(errno, fmt::format("cannot enter {}", layers_dir.string()));
    } else if (::mount("overlay", target.c_str(), "overlay", 0, data.c_str()) != 0) {
      status = errno_status(
          errno, fmt::format("cannot mount the root file system on {}", target.string()));
    }
  }).join();
  return status;
}

Result<std::string> mount_data(const ImageRecord& image, const std::string& container_id) {
  std::string lower;
  // Highest first, as overlayfs wants them; the same directory twice is refused by the kernel, and
  // only its highest place matters.
  std::vector<std::string> seen;
  for (auto it = image.layers.rbegin(); it != image.layers.rend(); ++it) {
    const std::string name = ContentStore::layer_mount_name(it->diff_id);
    if (std::find(seen.begin(), seen.end(), name) != seen.end()) continue;
    seen.push_back(name);
    lower += (lower.empty() ? "" : ":") + name;
  }
  const std::string root = "../roots/" + container_id;
  if (lower.empty()) lower = root + "/empty";
  const std::string data =
      fmt::format("lowerdir={0},upperdir={1}/upper,workdir={1}/work", lower, root);
  if (data.size() > kMountDataMax) {
    return fail(resource_exhausted("image {} has too many layers to mount ({})", image.short_name(),
                                   image.layers.size()));
  }
  return data;
}

std::string facts_of(const ImageRecord& image) {
  std::vector<std::string> layers;
  for (const LayerBlob& layer : image.layers) layers.push_back(layer.diff_id);
  boost::json::object facts;
  facts["version"] = kFormat;
  facts["image"] = image.digest;
  facts["layers"] = json_of(layers);
  return boost::json::serialize(facts) + "\n";
}

}  // namespace

Status ContainerRoots::open() {
  MUSTER_TRY(make_directory(dir_, 0700));
  std::error_code error;
  std::vector<std::string> names;
  for (fs::directory_iterator it(dir_, error), end; !error && it != end; it.increment(error)) {
    names.push_back(it->path().filename());
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const std::string& name : names) {
    const auto text = read_file(dir_ / name / "root.json");
    const auto facts = text ? parse_json(*text, "root.json") : fail(text.error());
    if (facts && json_int(*facts, "version") == kFormat) {
      roots_[name] = {json_string(*facts, "image"), json_strings(*facts, "layers")};
      continue;
    }
    // Cut off while being made or deleted.
    log_->info("deleting the unfinished root of container {}", name);
    umount2((dir_ / name / "merged").c_str(), MNT_DETACH | UMOUNT_NOFOLLOW);
    const Status removed = remove_tree((dir_ / name).string());
    if (!removed.ok()) log_->warn("root of {}: {}", name, removed.message());
  }
  return ok_status();
}

Result<std::string> ContainerRoots::mount(const ImageRecord& image,
                                          const std::string& container_id) {
  if (!is_safe_id(container_id)) {
    return fail(invalid_argument("invalid container id \"{}\"", container_id));
  }
  const fs::path root = dir_ / container_id;
  const fs::path merged = root / "merged";
  bool known = false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    Root entry{image.digest, {}};
    for (const LayerBlob& layer : image.layers) entry.diff_ids.push_back(layer.diff_id);
    const auto [it, added] = roots_.emplace(container_id, std::move(entry));
    known = !added;
    if (known && it->second.image != image.digest) {
      return fail(already_exists("container {} has a root of another image", container_id));
    }
  }
  if (is_mount_point(merged)) return merged.string();
  const auto attempt = [&]() -> Status {
    MUSTER_ASSIGN(const std::string data, mount_data(image, container_id));
    MUSTER_TRY(make_directory(root, 0700));
    // overlayfs shows the upper directory's own mode as that of the container's "/".
    for (const char* name : {"upper", "merged"}) MUSTER_TRY(make_directory(root / name, 0755));
    MUSTER_TRY(make_directory(root / "work", 0700));
    if (image.layers.empty()) MUSTER_TRY(make_directory(root / "empty", 0755));
    // Unsynced: after a power cut there is no container either.
    MUSTER_TRY(write_file_atomic(root / "root.json", facts_of(image), 0600, Durability::kNone));
    return mount_overlay(layers_dir_, data, merged);
  };
  const Status status = attempt();
  if (status.ok()) return merged.string();
  if (known) return fail(status);  // what the container wrote before is worth keeping
  const Status undone = unmount(container_id);
  if (!undone.ok()) log_->warn("after a failed mount: {}", undone.message());
  return fail(status);
}

Status ContainerRoots::unmount(const std::string& container_id) {
  if (!is_safe_id(container_id)) {
    return invalid_argument("invalid container id \"{}\"", container_id);
  }
  const fs::path root = dir_ / container_id;
  const fs::path merged = root / "merged";
  // More than once: somebody may have mounted over it. A busy one goes with its last user.
  while (is_mount_point(merged)) {
    if (umount2(merged.c_str(), UMOUNT_NOFOLLOW) == 0) continue;
    if (umount2(merged.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0) {
      return errno_status(errno, fmt::format("cannot unmount {}", merged.string()));
    }
  }
  // Without root.json, what a crash leaves of the rest is deleted at the next start.
  unlink((root / "root.json").c_str());
  const Status removed = remove_tree(root.string());
  const std::lock_guard<std::mutex> lock(mutex_);
  roots_.erase(container_id);
  return removed;
}

std::vector<std::string> ContainerRoots::containers() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::vector<std::string> result;
  for (const auto& [container, root] : roots_) result.push_back(container);
  return result;
}

std::vector<std::string> ContainerRoots::users_of(const std::string& image_digest) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::vector<std::string> result;
  for (const auto& [container, root] : roots_) {
    if (root.image == image_digest) result.push_back(container);
  }
  return result;
}

std::set<std::string> ContainerRoots::layers() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::set<std::string> result;
  for (const auto& [container, root] : roots_) {
    result.insert(root.diff_ids.begin(), root.diff_ids.end());
  }
  return result;
}

}  // namespace muster::agent
