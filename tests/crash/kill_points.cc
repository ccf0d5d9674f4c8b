#include "tests/crash/kill_points.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

namespace muster::kill_points {
namespace {

template <class F>
F* real(const char* name) {
  return reinterpret_cast<F*>(dlsym(RTLD_NEXT, name));
}

int real_rename(const char* from, const char* to) {
  static auto* const next = real<int(const char*, const char*)>("rename");
  return next(from, to);
}

// What `name` stands for itself; 0: nothing.
uint64_t inode_at(int directory, const char* name) {
  struct stat info {};
  return fstatat(directory, name, &info, AT_SYMLINK_NOFOLLOW) == 0 ? info.st_ino : 0;
}
uint64_t inode_of(const std::string& path) {
  return inode_at(AT_FDCWD, path.c_str());
}

std::string parent_of(const std::string& path) {
  return path.substr(0, path.rfind('/'));
}
std::string name_of(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}

// "Errors" of the model itself: no such exit code is expected anywhere.
void must(bool good) {
  if (!good) _exit(99);
}

}  // namespace

Watch& Watch::get() {
  static Watch watch;
  return watch;
}

void Watch::arm(uint64_t at, End end, uint64_t seed, const std::string& root) {
  must(::mkdir((root + ".lost").c_str(), 0700) == 0 || errno == EEXIST);
  const std::lock_guard lock(mutex_);
  must(!armed_);
  at_ = at;
  end_ = end;
  seed_ = seed;
  calls_ = 0;
  root_ = root;
  armed_ = true;
}

uint64_t Watch::disarm() {
  const std::lock_guard lock(mutex_);
  before_call();
  armed_ = false;
  return calls_;
}

// ---------------------------------------------------------------- the calls

// Under the lock.
bool Watch::before_call() {
  if (!armed_) return false;
  if (++calls_ == at_) {
    armed_ = false;
    if (end_ == End::kPowerCut) cut();
    raise(SIGKILL);
  }
  return end_ == End::kPowerCut;
}

ssize_t Watch::write(int fd, const void* data, size_t bytes) {
  static auto* const next = real<ssize_t(int, const void*, size_t)>("write");
  struct stat info {};
  if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode)) {
    const std::lock_guard lock(mutex_);
    if (before_call() && !files_.contains(info.st_ino)) {
      files_[info.st_ino] = {dup(fd), info.st_size};
    }
  }
  return next(fd, data, bytes);
}

int Watch::sync(int fd, const char* call) {
  auto* const next = real<int(int)>(call);
  struct stat info {};
  Directory* directory = nullptr;
  size_t changes = 0;
  {
    const std::lock_guard lock(mutex_);
    if (before_call() && fstat(fd, &info) == 0) {
      for (auto& [inode, one] : directories_) {
        if (inode == info.st_ino) directory = one.get();
      }
    }
    if (directory != nullptr) changes = directory->changes.size();
  }
  const int result = next(fd);
  const std::lock_guard lock(mutex_);
  if (!armed_ || result != 0 || fstat(fd, &info) != 0) return result;
  if (const auto found = files_.find(info.st_ino); found != files_.end()) {
    found->second.synced = info.st_size;
  }
  if (directory == nullptr) return result;
  for (size_t i = 0; i < changes; ++i) {
    for (const auto& [name, after] : directory->changes[i]) directory->synced[name] = after;
  }
  directory->changes.erase(directory->changes.begin(),
                           directory->changes.begin() + static_cast<ptrdiff_t>(changes));
  return result;
}

int Watch::make(const char* name, const std::function<int()>& make) {
  const std::lock_guard lock(mutex_);
  const std::string path = name;
  const bool noted = is_watched(path) && before_call();
  const Inode before = noted ? inode_of(path) : 1;
  const int result = make();
  const int error = errno;
  if (result >= 0 && before == 0) note(path, 0, inode_of(path));
  errno = error;
  return result;
}

int Watch::rename(const char* from, const char* to) {
  const std::lock_guard lock(mutex_);
  const bool noted = before_call();
  if (!noted || !is_watched(from)) return real_rename(from, to);
  const Inode inode = inode_of(from);
  const Inode replaced = inode_of(to);
  if (inode == 0) return real_rename(from, to);
  if (replaced != 0) must(put_aside(to));
  const int result = real_rename(from, to);
  must(result == 0);
  Directory& one = directory_of(from);
  Directory& other = directory_of(to);
  one.synced.emplace(name_of(from), inode);
  other.synced.emplace(name_of(to), replaced);
  if (&one == &other) {
    one.changes.push_back({{name_of(from), 0}, {name_of(to), inode}});
  } else {
    one.changes.push_back({{name_of(from), 0}});
    other.changes.push_back({{name_of(to), inode}});
  }
  return result;
}

// What is removed stays beside the root, since the name may come back.
int Watch::remove(const char* name, bool directory) {
  const std::lock_guard lock(mutex_);
  static auto* const unlink_next = real<int(const char*)>("unlink");
  static auto* const rmdir_next = real<int(const char*)>("rmdir");
  const bool noted = before_call();
  const std::string path = name;
  struct stat info {};
  if (!noted || !is_watched(path) || lstat(name, &info) != 0 ||
      S_ISDIR(info.st_mode) != directory || (directory && !std::filesystem::is_empty(path))) {
    return directory ? rmdir_next(name) : unlink_next(name);
  }
  must(put_aside(path));
  note(path, info.st_ino, 0);
  return 0;
}

// ---------------------------------------------------------------- names

bool Watch::is_watched(const std::string& path) const {
  return armed_ && path.starts_with(root_ + "/");
}

Watch::Directory& Watch::directory_of(const std::string& path) {
  const std::string parent = parent_of(path);
  const Inode inode = inode_of(parent);
  for (auto& [known, directory] : directories_) {
    if (known == inode) return *directory;
  }
  auto fresh = std::make_unique<Directory>();
  // Not open(), which comes through here.
  static auto* const next = real<int(const char*, int, ...)>("open");
  fresh->fd.reset(next(parent.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  must(bool(fresh->fd) && inode != 0);
  return *directories_.emplace_back(inode, std::move(fresh)).second;
}

void Watch::note(const std::string& path, Inode before, Inode after) {
  Directory& directory = directory_of(path);
  directory.synced.emplace(name_of(path), before);
  directory.changes.push_back({{name_of(path), after}});
}

bool Watch::put_aside(const std::string& path) {
  const std::string aside = root_ + ".lost/" + std::to_string(inode_of(path));
  return real_rename(path.c_str(), aside.c_str()) == 0;
}

// ---------------------------------------------------------------- the cut

void Watch::cut() {
  SeededRng rng(seed_);
  cut_files(rng);
  for (auto& [inode, directory] : directories_) cut_names(*directory, rng);
}

void Watch::cut_files(Rng& rng) {
  for (auto& [inode, file] : files_) {
    struct stat info {};
    if (fstat(file.fd, &info) != 0 || info.st_size <= file.synced) continue;
    const auto loose = static_cast<uint64_t>(info.st_size - file.synced);
    const auto kept = file.synced + static_cast<int64_t>(rng.below(loose + 1));
    const bool shorter = rng.below(2) == 0;
    must(ftruncate(file.fd, kept) == 0);
    // The length reached the disk, but not the pages.
    if (!shorter) must(ftruncate(file.fd, info.st_size) == 0);
  }
}

void Watch::cut_names(Directory& directory, Rng& rng) {
  const int here = directory.fd.get();
  std::map<std::string, Inode> wanted = directory.synced;
  const uint64_t how = rng.below(3);
  size_t count = how == 0 ? 0 : directory.changes.size();
  if (how == 1) count = rng.below(count + 1);
  for (size_t i = 0; i < count; ++i) {
    if (how == 2 && rng.below(2) == 0) continue;
    for (const auto& [name, inode] : directory.changes[i]) wanted[name] = inode;
  }
  const auto aside = [&](Inode inode) { return root_ + ".lost/" + std::to_string(inode); };
  for (const auto& [name, inode] : wanted) {
    const Inode present = inode_at(here, name.c_str());
    if (present == 0 || present == inode) continue;
    must(renameat(here, name.c_str(), AT_FDCWD, aside(present).c_str()) == 0);
  }
  for (const auto& [name, inode] : wanted) {
    if (inode == 0 || inode_at(here, name.c_str()) == inode) continue;
    must(renameat(AT_FDCWD, aside(inode).c_str(), here, name.c_str()) == 0);
  }
}

int in_child(const std::function<int()>& body) {
  const pid_t child = fork();
  if (child == 0) _exit(body());
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

}  // namespace muster::kill_points

// ---------------------------------------------------------------- in the C library's place

namespace {

using muster::kill_points::real;
using muster::kill_points::Watch;

// Where a name that is relative to a directory lies.
std::string resolved(int directory, const char* name) {
  if (name[0] == '/' || directory == AT_FDCWD) return name;
  char path[4096];
  const std::string link = "/proc/self/fd/" + std::to_string(directory);
  const ssize_t n = readlink(link.c_str(), path, sizeof path);
  return n < 0 ? std::string(name) : std::string(path, static_cast<size_t>(n)) + "/" + name;
}

int open_or_make(const char* call, const char* path, int flags, mode_t mode) {
  auto* const next = real<int(const char*, int, ...)>(call);
  if ((flags & O_CREAT) == 0) return next(path, flags, mode);
  return Watch::get().make(path, [&] { return next(path, flags, mode); });
}

}  // namespace

extern "C" {

ssize_t write(int fd, const void* data, size_t bytes) {
  return Watch::get().write(fd, data, bytes);
}
int fsync(int fd) {
  return Watch::get().sync(fd, "fsync");
}
int fdatasync(int fd) {
  return Watch::get().sync(fd, "fdatasync");
}

int open(const char* path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  const mode_t mode = va_arg(more, mode_t);
  va_end(more);
  return open_or_make("open", path, flags, mode);
}
int open64(const char* path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  const mode_t mode = va_arg(more, mode_t);
  va_end(more);
  return open_or_make("open64", path, flags, mode);
}

int mkdir(const char* path, mode_t mode) noexcept {
  static auto* const next = real<int(const char*, mode_t)>("mkdir");
  return Watch::get().make(path, [&] { return next(path, mode); });
}
int symlink(const char* target, const char* path) noexcept {
  static auto* const next = real<int(const char*, const char*)>("symlink");
  return Watch::get().make(path, [&] { return next(target, path); });
}

int rename(const char* from, const char* to) noexcept {
  return Watch::get().rename(from, to);
}
int unlink(const char* path) noexcept {
  return Watch::get().remove(path, false);
}
int rmdir(const char* path) noexcept {
  return Watch::get().remove(path, true);
}
int remove(const char* path) noexcept {
  struct stat info {};
  return Watch::get().remove(path, lstat(path, &info) == 0 && S_ISDIR(info.st_mode));
}
int unlinkat(int directory, const char* path, int flags) noexcept {
  return Watch::get().remove(resolved(directory, path).c_str(), (flags & AT_REMOVEDIR) != 0);
}

}  // extern "C"
