#include "agent/volumes/volume_directory.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string_view>
#include <system_error>

#include "agent/volumes/volume_mounts.h"
#include "base/file.h"
#include "base/remove_tree.h"
#include "base/unique_fd.h"

namespace muster::agent {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kFormat = "muster-volume ";
constexpr std::string_view kHeader = "muster-volume 1\n";

Status touch(const fs::path& path) {
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  return fd ? Status() : errno_status(errno, "cannot create " + path.string());
}

Status remove_file(const fs::path& path) {
  if (::unlink(path.c_str()) == 0 || errno == ENOENT) return {};
  return errno_status(errno, "cannot remove " + path.string());
}

// Not base's make_directory: the mode has to be exact, whatever the umask.
Status make_folder(const fs::path& path, mode_t mode) {
  if (::mkdir(path.c_str(), mode) != 0 || ::chmod(path.c_str(), mode) != 0) {
    return errno_status(errno, "cannot create " + path.string());
  }
  return {};
}

Result<std::vector<std::string>> names_in(const fs::path& path) {
  std::vector<std::string> out;
  std::error_code error;
  for (fs::directory_iterator at(path, error), end; !error && at != end; at.increment(error)) {
    out.push_back(at->path().filename().string());
  }
  if (error) return fail(errno_status(error.value(), path.string()));
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace

Result<v1::LocalVolume> VolumeDirectory::read() const {
  v1::LocalVolume volume;
  volume.set_name(path_.filename().string());
  volume.set_mountpoint(data().string());
  volume.set_driver("local");
  auto text = read_file(path_ / "volume");
  if (!text) {
    struct stat info {};
    if (text.error().code() != StatusCode::kNotFound) return fail(std::move(text).error());
    if (::lstat(data().c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) {
      return fail(data_loss("there is neither a description nor a folder _data"));
    }
    volume.set_created_at_ns(info.st_mtim.tv_sec * 1'000'000'000 + info.st_mtim.tv_nsec);
    return volume;
  }
  if (text->rfind(kHeader, 0) != 0) {
    if (text->rfind(kFormat, 0) != 0) return fail(data_loss("its description is damaged"));
    return fail(data_loss("its description was written by a newer version of muster"));
  }
  v1::LocalVolume stored;
  if (!stored.ParseFromArray(text->data() + kHeader.size(),
                             static_cast<int>(text->size() - kHeader.size())) ||
      stored.driver().empty()) {
    return fail(data_loss("its description is damaged"));
  }
  // The folder may have been moved or renamed since.
  stored.set_name(volume.name());
  stored.set_mountpoint(volume.mountpoint());
  return stored;
}

Result<std::set<std::string>> VolumeDirectory::users() const {
  auto names = names_in(path_ / "uses");
  if (!names && names.error().code() == StatusCode::kNotFound) return std::set<std::string>();
  if (!names) return fail(std::move(names).error());
  return std::set<std::string>(names->begin(), names->end());
}

Status VolumeDirectory::add_user(const std::string& container_id) const {
  MUSTER_TRY(make_directory(path_ / "uses", 0700));
  return touch(path_ / "uses" / container_id);
}

Status VolumeDirectory::remove_user(const std::string& container_id) const {
  return remove_file(path_ / "uses" / container_id);
}

bool VolumeDirectory::is_filling() const {
  return ::access((path_ / "filling").c_str(), F_OK) == 0;
}

Status VolumeDirectory::set_filling(bool filling) const {
  return filling ? touch(path_ / "filling") : remove_file(path_ / "filling");
}

uint64_t VolumeDirectory::data_bytes() const {
  uint64_t total = 0;
  std::set<std::pair<dev_t, ino_t>> linked;
  std::error_code error;
  fs::recursive_directory_iterator at(data(), fs::directory_options::skip_permission_denied, error);
  for (const fs::recursive_directory_iterator end; !error && at != end; at.increment(error)) {
    struct stat info {};
    if (::lstat(at->path().c_str(), &info) != 0 || !S_ISREG(info.st_mode)) continue;
    if (info.st_nlink > 1 && !linked.emplace(info.st_dev, info.st_ino).second) continue;
    total += static_cast<uint64_t>(info.st_size);
  }
  return total;
}

Result<std::vector<std::string>> VolumeRoot::names() const {
  MUSTER_ASSIGN(std::vector<std::string> names, names_in(path_));
  std::vector<std::string> out;
  for (std::string& name : names) {
    std::error_code error;
    const bool folder = fs::symlink_status(path_ / name, error).type() == fs::file_type::directory;
    if (name[0] != '.' && folder) out.push_back(std::move(name));
  }
  return out;
}

Status VolumeRoot::create(const v1::LocalVolume& volume, const std::string& user) const {
  const fs::path folder = path_ / (".new-" + volume.name().substr(0, 240));
  MUSTER_TRY(remove_tree(folder.string()));
  const VolumeDirectory made(folder);
  const auto prepare = [&]() -> Status {
    MUSTER_TRY(make_folder(folder, 0711));
    MUSTER_TRY(make_folder(made.data(), 0755));
    if (!user.empty()) MUSTER_TRY(made.add_user(user));
    std::string text(kHeader);
    if (!volume.AppendToString(&text)) return internal_error("cannot serialise the description");
    const Durability durability = volume.anonymous() ? Durability::kNone : Durability::kFsync;
    MUSTER_TRY(write_file_atomic(folder / "volume", text, 0600, durability));
    if (::rename(folder.c_str(), (path_ / volume.name()).c_str()) != 0) {
      return errno_status(errno, "cannot create " + (path_ / volume.name()).string());
    }
    return volume.anonymous() ? Status() : sync_directory(path_);
  };
  Status status = prepare();
  if (!status.ok()) [[maybe_unused]]
    const Status undone = remove_tree(folder.string());  // else at the next start
  return status;
}

Status VolumeRoot::remove(const std::string& name) const {
  const fs::path folder = path_ / name;
  // A mount moves along with a rename and would then be deleted through: none may be left.
  MUSTER_TRY(unmount_below(folder));
  fs::path aside = path_ / (".removed-" + name.substr(0, 240));
  for (int n = 1; ::access(aside.c_str(), F_OK) == 0; ++n) {
    aside = path_ / fmt::format(".removed-{}.{}", name.substr(0, 230), n);
  }
  if (::rename(folder.c_str(), aside.c_str()) != 0) {
    if (errno == ENOENT) return {};
    return errno_status(errno, "cannot remove " + folder.string());
  }
  return remove_folder(aside);
}

Status VolumeRoot::remove_folder(const fs::path& folder) const {
  MUSTER_TRY(unmount_below(folder));
  return remove_tree(folder.string());
}

Status VolumeRoot::clear_leftovers() const {
  MUSTER_ASSIGN(const std::vector<std::string> names, names_in(path_));
  Status first;
  for (const std::string& name : names) {
    if (name.rfind(".new-", 0) != 0 && name.rfind(".removed-", 0) != 0) continue;
    Status status = remove_folder(path_ / name);
    if (first.ok()) first = std::move(status);
  }
  return first;
}

}  // namespace muster::agent
