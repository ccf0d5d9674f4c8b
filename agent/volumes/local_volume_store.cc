#include "agent/volumes/local_volume_store.h"

#include <fcntl.h>
#include <openssl/sha.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <mutex>
#include <set>
#include <string_view>
#include <utility>

#include "agent/volumes/copy_up.h"
#include "agent/volumes/driver_options.h"
#include "agent/volumes/volume_directory.h"
#include "agent/volumes/volume_mounts.h"
#include "base/file.h"
#include "base/rng.h"
#include "base/thread_executor.h"

namespace muster::agent {
namespace {

using Pairs = google::protobuf::RepeatedPtrField<v1::KeyValue>;

constexpr const char* kAnonymousLabel = "com.docker.volume.anonymous";

std::string hex(const unsigned char* bytes, size_t size) {
  std::string out;
  for (size_t i = 0; i < size; ++i) out += fmt::format("{:02x}", bytes[i]);
  return out;
}

std::string sha256_hex(const std::string& text) {
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest);
  return hex(digest, sizeof digest);
}

std::string random_name() {
  SystemRng rng;
  return fmt::format("{:016x}{:016x}{:016x}{:016x}", rng.next(), rng.next(), rng.next(),
                     rng.next());
}

Pairs sorted(const Pairs& pairs) {
  std::map<std::string, std::string> by_key;
  for (const v1::KeyValue& pair : pairs) by_key[pair.key()] = pair.value();
  Pairs out;
  for (const auto& [key, value] : by_key) {
    v1::KeyValue& pair = *out.Add();
    pair.set_key(key);
    pair.set_value(value);
  }
  return out;
}

bool same_pairs(const Pairs& a, const Pairs& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const v1::KeyValue& x, const v1::KeyValue& y) {
                      return x.key() == y.key() && x.value() == y.value();
                    });
}

// It becomes a file name.
Status check_container_id(const std::string& id) {
  const bool valid = !id.empty() && id.size() <= 200 && id[0] != '.' &&
                     id.find('/') == std::string::npos && id.find('\0') == std::string::npos;
  return valid ? Status() : invalid_argument("\"{}\" is not a container id", id);
}

void keep_first(Status& first, Status next) {
  if (first.ok()) first = std::move(next);
}

// A volume in memory. `work` is held during whatever blocks on this volume (mounts, copies,
// deletion); the other members change only while the store's mutex is held as well.
struct Volume {
  explicit Volume(VolumeDirectory where) : directory(std::move(where)) {}

  const VolumeDirectory directory;
  std::mutex work;
  v1::LocalVolume description;
  Status broken;  // why the description cannot be read
  VolumeMount mount;
  std::set<std::string> users;
  bool removed = false;
};

// Locks are taken in this order: a volume's `work`, then `mutex_`, which is held for moments only;
// so a file server that does not answer stops its own volume and no other.
class LocalVolumeStore final : public VolumeStore {
 public:
  LocalVolumeStore(std::filesystem::path root, Log log)
      : root_path_(root), root_(std::move(root)), log_(std::move(log)) {}

  Status open();

  Result<std::string> acquire(const v1::Mount& mount, const std::string& rootfs,
                              const std::string& container_id) override;
  Status release(const std::string& container_id) override;
  Result<std::vector<v1::LocalVolume>> list() override;
  Result<v1::LocalVolume> create(const v1::CreateVolumeRequest& request) override;
  Result<v1::LocalVolume> inspect(const std::string& name) override;
  Status remove(const std::string& name, bool force) override;
  Result<v1::PruneVolumesResponse> prune(bool all) override;

 private:
  using VolumePtr = std::shared_ptr<Volume>;

  Status load(const std::string& name);
  VolumePtr find(const std::string& name);
  std::vector<VolumePtr> all();
  Result<VolumePtr> find_or_create(const v1::CreateVolumeRequest& wanted, bool anonymous,
                                   const std::string& user);
  Result<VolumePtr> create_new(const v1::CreateVolumeRequest& wanted, bool anonymous,
                               const std::string& user);
  Status use(Volume& volume, const std::string& container_id);
  Result<std::string> prepare(Volume& volume, const v1::Mount& mount, const std::string& rootfs,
                              const std::string& container_id);
  Result<std::string> prepare_subpath(Volume& volume, const v1::Mount& mount,
                                      const std::string& container_id);
  Status fill(Volume& volume, const std::string& directory, const v1::Mount& mount,
              const std::string& rootfs);
  Status release_one(const VolumePtr& volume, const std::string& container_id);
  Status unmount_subpaths(const Volume& volume, const std::string& container_id);
  Status remove_unused(Volume& volume);
  v1::LocalVolume describe(const Volume& volume) const;

  const std::filesystem::path root_path_;
  const VolumeRoot root_;
  const Log log_;
  const SystemClock clock_;
  std::mutex mutex_;
  std::map<std::string, VolumePtr> volumes_;
};

// ---------------------------------------------------------------- opening

Status LocalVolumeStore::open() {
  if (Status status = root_.clear_leftovers(); !status.ok()) {
    log_->warn("a removed volume is still there: {}", status.message());
  }
  MUSTER_ASSIGN(const std::vector<std::string> names, root_.names());
  for (const std::string& name : names) MUSTER_TRY(load(name));
  return {};
}

Status LocalVolumeStore::load(const std::string& name) {
  if (!check_volume_name(name).ok()) {
    log_->warn("{} is not a volume: its name could not be given to one",
               (root_path_ / name).string());
    return {};
  }
  auto volume = std::make_shared<Volume>(root_.volume(name));
  MUSTER_ASSIGN(volume->users, volume->directory.users());
  auto description = volume->directory.read();
  if (description) {
    auto mount = parse_driver_options(description->driver_options());
    if (mount) volume->mount = *std::move(mount);
    if (!mount) volume->broken = mount.error();
    volume->description = *std::move(description);
  } else {
    volume->broken = description.error();
    volume->description.set_name(name);
    volume->description.set_driver("local");
    volume->description.set_mountpoint(volume->directory.data().string());
  }
  if (!volume->broken.ok()) {
    log_->error("volume {} cannot be used: {}", name, volume->broken.message());
  } else if (volume->users.empty()) {
    // Its last container's end was cut off between two steps.
    if (Status status = unmount_below(volume->directory.path()); !status.ok()) {
      log_->warn("volume {}: {}", name, status.message());
    }
  }
  volumes_.emplace(name, std::move(volume));
  return {};
}

// ---------------------------------------------------------------- creation

LocalVolumeStore::VolumePtr LocalVolumeStore::find(const std::string& name) {
  const std::lock_guard lock(mutex_);
  const auto at = volumes_.find(name);
  return at == volumes_.end() ? nullptr : at->second;
}

std::vector<LocalVolumeStore::VolumePtr> LocalVolumeStore::all() {
  const std::lock_guard lock(mutex_);
  std::vector<VolumePtr> out;
  for (const auto& [name, volume] : volumes_) out.push_back(volume);
  return out;
}

Result<LocalVolumeStore::VolumePtr> LocalVolumeStore::find_or_create(
    const v1::CreateVolumeRequest& wanted, bool anonymous, const std::string& user) {
  if (!wanted.driver().empty() && wanted.driver() != "local" && wanted.driver() != "default") {
    return fail(
        not_found("error looking up volume plugin {0}: plugin \"{0}\" not found", wanted.driver()));
  }
  MUSTER_TRY(check_volume_name(wanted.name()));
  const std::lock_guard lock(mutex_);
  const auto at = volumes_.find(wanted.name());
  if (at != volumes_.end()) return at->second;
  return create_new(wanted, anonymous, user);
}

// With mutex_ held: two containers that want a new volume get one.
Result<LocalVolumeStore::VolumePtr> LocalVolumeStore::create_new(
    const v1::CreateVolumeRequest& wanted, bool anonymous, const std::string& user) {
  auto volume = std::make_shared<Volume>(root_.volume(wanted.name()));
  MUSTER_ASSIGN(volume->mount, parse_driver_options(wanted.driver_options()));
  v1::LocalVolume& description = volume->description;
  description.set_name(wanted.name());
  description.set_driver("local");
  description.set_mountpoint(volume->directory.data().string());
  *description.mutable_labels() = wanted.labels();
  if (anonymous) description.add_labels()->set_key(kAnonymousLabel);
  *description.mutable_labels() = sorted(description.labels());
  *description.mutable_driver_options() = sorted(wanted.driver_options());
  description.set_created_at_ns(clock_.wall_now().unix_ns);
  description.set_anonymous(anonymous);
  if (Status status = root_.create(description, user); !status.ok()) {
    return fail(status.with_context("cannot create volume " + wanted.name()));
  }
  if (!user.empty()) volume->users.insert(user);
  volumes_.emplace(wanted.name(), volume);
  return volume;
}

Result<v1::LocalVolume> LocalVolumeStore::create(const v1::CreateVolumeRequest& request) {
  v1::CreateVolumeRequest wanted = request;
  const bool anonymous = wanted.name().empty();
  if (anonymous) wanted.set_name(random_name());
  MUSTER_ASSIGN(const VolumePtr volume, find_or_create(wanted, anonymous, ""));
  const std::lock_guard lock(mutex_);
  // Creating what exists is fine, as in Docker; but not getting another thing than asked for.
  if (wanted.driver_options_size() > 0 &&
      !same_pairs(sorted(wanted.driver_options()), volume->description.driver_options())) {
    return fail(already_exists("volume {} exists with other driver options", wanted.name()));
  }
  return describe(*volume);
}

// ---------------------------------------------------------------- containers

Result<std::string> LocalVolumeStore::acquire(const v1::Mount& mount, const std::string& rootfs,
                                              const std::string& container_id) {
  MUSTER_TRY(check_container_id(container_id));
  v1::CreateVolumeRequest wanted;
  const bool anonymous = mount.source().empty();
  // The same container and target give the same name, so that asking again after a restart makes
  // no second volume.
  wanted.set_name(anonymous ? sha256_hex(container_id + '\0' + mount.target()) : mount.source());
  wanted.set_driver(mount.volume().driver());
  *wanted.mutable_labels() = mount.volume().labels();
  *wanted.mutable_driver_options() = mount.volume().driver_options();
  while (true) {
    MUSTER_ASSIGN(const VolumePtr volume, find_or_create(wanted, anonymous, container_id));
    const std::lock_guard work(volume->work);
    if (volume->removed) continue;  // between the two lines above: make it again
    if (!volume->broken.ok()) {
      return fail(volume->broken.with_context("volume " + wanted.name()));
    }
    if (wanted.driver_options_size() > 0 &&
        !same_pairs(sorted(wanted.driver_options()), volume->description.driver_options())) {
      log_->warn("volume {} exists with other driver options than {} asks for; those it has stay",
                 wanted.name(), container_id);
    }
    MUSTER_TRY(use(*volume, container_id));
    return prepare(*volume, mount, rootfs, container_id);
  }
}

// Before anything is mounted: whatever happens next, release() finds the volume again.
Status LocalVolumeStore::use(Volume& volume, const std::string& container_id) {
  MUSTER_TRY(volume.directory.add_user(container_id));
  const std::lock_guard lock(mutex_);
  volume.users.insert(container_id);
  return {};
}

Result<std::string> LocalVolumeStore::prepare(Volume& volume, const v1::Mount& mount,
                                              const std::string& rootfs,
                                              const std::string& container_id) {
  std::string path = volume.directory.data();
  if (volume.mount.needed()) {
    MUSTER_ASSIGN(const auto mounted, mounts_below(path));
    if (mounted.empty()) MUSTER_TRY(mount_volume(volume.mount, path));
  }
  if (!mount.volume().subpath().empty()) {
    MUSTER_ASSIGN(path, prepare_subpath(volume, mount, container_id));
  }
  if (!mount.volume().no_copy() && !rootfs.empty()) {
    const std::string& name = volume.description.name();
    if (Status status = fill(volume, path, mount, rootfs); !status.ok()) {
      return fail(status.with_context(
          fmt::format("filling volume {} from {} of the image", name, mount.target())));
    }
  }
  return path;
}

Result<std::string> LocalVolumeStore::prepare_subpath(Volume& volume, const v1::Mount& mount,
                                                      const std::string& container_id) {
  const std::string& subpath = mount.volume().subpath();
  if (subpath[0] == '/') {
    return fail(
        invalid_argument("subpath must be a relative path within the volume, not \"{}\"", subpath));
  }
  for (const auto& part : std::filesystem::path(subpath)) {
    if (part == "..") {
      return fail(invalid_argument("subpath \"{}\" leads out of the volume", subpath));
    }
  }
  auto inside = open_in_root(volume.directory.data(), subpath);
  if (!inside) {
    return fail(inside.error().with_context(fmt::format("cannot access subpath \"{}\" of volume {}",
                                                        subpath, volume.description.name())));
  }
  MUSTER_TRY(make_directory(volume.directory.subpaths(), 0711));
  // A name of its own for each use; the container's id in front is how release() finds it.
  const std::filesystem::path target =
      volume.directory.subpaths() /
      (container_id + "." + sha256_hex(mount.target() + '\0' + subpath).substr(0, 16));
  MUSTER_TRY(unmount_below(target));
  MUSTER_TRY(bind_descriptor(inside->get(), target));
  return target.string();
}

// `directory` is the volume's data or a part of it.
Status LocalVolumeStore::fill(Volume& volume, const std::string& directory, const v1::Mount& mount,
                              const std::string& rootfs) {
  constexpr int kFlags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
  const UniqueFd target(::open(directory.c_str(), kFlags | O_NOFOLLOW));
  if (!target) return errno == ENOTDIR ? Status() : errno_status(errno, directory);
  const bool unfinished = volume.directory.is_filling();
  MUSTER_ASSIGN(const bool empty, is_empty_directory(target.get()));
  if (!empty && !unfinished) return {};
  // Links in the image lead where they would lead inside the container.
  auto found = open_in_root(rootfs, mount.target());
  if (!found) {
    if (found.error().code() == StatusCode::kNotFound) return volume.directory.set_filling(false);
    return found.error();
  }
  const UniqueFd source(::openat(found->get(), ".", kFlags));
  if (!source) return errno == ENOTDIR ? Status() : errno_status(errno, mount.target());
  MUSTER_ASSIGN(const bool nothing, is_empty_directory(source.get()));
  // The mark makes a copy that a crash cut off go on next time, though it is no longer empty.
  if (!nothing) MUSTER_TRY(volume.directory.set_filling(true));
  MUSTER_ASSIGN(const uint64_t copied, copy_up(source.get(), target.get()));
  // After a power cut the mark must not be gone while the data is missing.
  if (copied > 0 && !volume.description.anonymous() && ::syncfs(target.get()) != 0) {
    return errno_status(errno, "cannot sync");
  }
  return volume.directory.set_filling(false);
}

Status LocalVolumeStore::release(const std::string& container_id) {
  MUSTER_TRY(check_container_id(container_id));
  Status first;
  for (const VolumePtr& volume : all()) {
    {
      const std::lock_guard lock(mutex_);
      if (volume->users.count(container_id) == 0) continue;
    }
    keep_first(first, release_one(volume, container_id));
  }
  return first;
}

Status LocalVolumeStore::release_one(const VolumePtr& volume, const std::string& container_id) {
  const std::lock_guard work(volume->work);
  if (volume->removed) return {};
  const std::string context = "volume " + volume->description.name();
  MUSTER_TRY(unmount_subpaths(*volume, container_id).with_context(context));
  const bool last = volume->users.size() == 1 && volume->users.count(container_id) == 1;
  // All at once: were the use removed first, a crash would leave a volume nobody deletes.
  if (last && volume->description.anonymous()) return remove_unused(*volume);
  if (last && volume->mount.needed()) {
    MUSTER_TRY(unmount_below(volume->directory.data()).with_context(context));
  }
  MUSTER_TRY(volume->directory.remove_user(container_id));
  const std::lock_guard lock(mutex_);
  volume->users.erase(container_id);
  return {};
}

Status LocalVolumeStore::unmount_subpaths(const Volume& volume, const std::string& container_id) {
  std::error_code error;
  std::vector<std::filesystem::path> mine;
  for (const auto& entry :
       std::filesystem::directory_iterator(volume.directory.subpaths(), error)) {
    if (entry.path().filename().string().rfind(container_id + ".", 0) == 0) {
      mine.push_back(entry.path());
    }
  }
  for (const std::filesystem::path& path : mine) {
    MUSTER_TRY(unmount_below(path));
    // An empty directory or file of ours; never remove_all on what was a mount.
    if (::rmdir(path.c_str()) != 0 && errno == ENOTDIR) ::unlink(path.c_str());
  }
  return {};
}

// ---------------------------------------------------------------- looking and removing

// With mutex_ held.
v1::LocalVolume LocalVolumeStore::describe(const Volume& volume) const {
  v1::LocalVolume out = volume.description;
  out.set_users(static_cast<uint32_t>(volume.users.size()));
  return out;
}

Result<std::vector<v1::LocalVolume>> LocalVolumeStore::list() {
  const std::lock_guard lock(mutex_);
  std::vector<v1::LocalVolume> out;
  for (const auto& [name, volume] : volumes_) out.push_back(describe(*volume));
  return out;
}

Result<v1::LocalVolume> LocalVolumeStore::inspect(const std::string& name) {
  const std::lock_guard lock(mutex_);
  const auto at = volumes_.find(name);
  if (at == volumes_.end()) return fail(not_found("no such volume: {}", name));
  return describe(*at->second);
}

// With the volume's `work` held and no user but one that goes with it.
Status LocalVolumeStore::remove_unused(Volume& volume) {
  const std::string name = volume.description.name();
  const Status status = root_.remove(name);
  std::error_code error;
  if (std::filesystem::exists(volume.directory.path(), error)) return status;
  {
    const std::lock_guard lock(mutex_);
    volume.removed = true;
    volumes_.erase(name);
  }
  // The name is free; what could not be deleted is tried again at the next start.
  if (!status.ok()) log_->warn("volume {} is removed, but {}", name, status.message());
  return {};
}

Status LocalVolumeStore::remove(const std::string& name, bool force) {
  const VolumePtr volume = find(name);
  const auto missing = [&] { return force ? Status() : not_found("no such volume: {}", name); };
  if (volume == nullptr) return missing();
  const std::lock_guard work(volume->work);
  if (volume->removed) return missing();
  std::string users;
  for (const std::string& id : volume->users) users += (users.empty() ? "" : ", ") + id;
  if (!users.empty()) {
    return failed_precondition("remove {}: volume is in use - [{}]", name, users);
  }
  return remove_unused(*volume);
}

Result<v1::PruneVolumesResponse> LocalVolumeStore::prune(bool all_volumes) {
  v1::PruneVolumesResponse response;
  Status first;
  for (const VolumePtr& volume : all()) {
    // One that is at work is in use, or about to be.
    const std::unique_lock work(volume->work, std::try_to_lock);
    if (!work.owns_lock() || volume->removed || !volume->users.empty()) continue;
    if (!volume->description.anonymous() && !all_volumes) continue;
    // What cannot be understood may be of value: only `remove` deletes it, by its name.
    if (!volume->broken.ok()) continue;
    const uint64_t bytes = volume->directory.data_bytes();
    Status status = remove_unused(*volume);
    if (!status.ok()) {
      keep_first(first, std::move(status));
      continue;
    }
    response.add_deleted(volume->description.name());
    response.set_freed_bytes(response.freed_bytes() + bytes);
  }
  if (!first.ok() && response.deleted().empty()) return fail(std::move(first));
  if (!first.ok()) log_->warn("prune left a volume: {}", first.message());
  return response;
}

}  // namespace

Result<std::unique_ptr<VolumeStore>> make_volume_store(VolumeStoreOptions options, Log log) {
  const std::filesystem::path path = options.data_dir / "volumes";
  // Closed to the host's users: what containers put there may run as root for whoever starts it.
  MUSTER_TRY(make_directory(path, 0700));
  if (::chmod(path.c_str(), 0700) != 0) return fail(errno_status(errno, path.string()));
  std::error_code error;
  // The kernel lists mounts by their real paths.
  std::filesystem::path root = std::filesystem::canonical(path, error);
  if (error) return fail(errno_status(error.value(), path.string()));
  auto store = std::make_unique<LocalVolumeStore>(std::move(root), std::move(log));
  MUSTER_TRY(store->open());
  return store;
}

}  // namespace muster::agent
