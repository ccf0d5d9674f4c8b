#include "overlay/dataplane/kernel/namespaces.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <thread>

#include "base/unique_fd.h"

namespace muster::overlay {
namespace {

constexpr long kNsfsMagic = 0x6e736673;  // NSFS_MAGIC

Status check_name(std::string_view name) {
  if (name.empty() || name.front() == '.' || name.find('/') != std::string_view::npos) {
    return invalid_argument("\"{}\" is not a container id", name);
  }
  return ok_status();
}

}  // namespace

Status on_own_thread(const std::function<Status()>& work) {
  Status outcome;
  std::thread thread([&] { outcome = work(); });
  thread.join();
  return outcome;
}

Status in_namespace(int fd, const std::function<Status()>& work) {
  return on_own_thread([&]() -> Status {
    if (setns(fd, CLONE_NEWNET) != 0)
      return errno_status(errno, "cannot enter a network namespace");
    return work();
  });
}

Status in_namespace(const std::string& path, const std::function<Status()>& work) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return errno_status(errno, "cannot open network namespace " + path);
  return in_namespace(fd.get(), work);
}

Status NamespaceDir::prepare() {
  std::error_code error;
  std::filesystem::create_directories(directory_, error);
  if (error) return errno_status(error.value(), "cannot make directory " + directory_);
  const char* dir = directory_.c_str();
  if (mount("", dir, "none", MS_SHARED | MS_REC, nullptr) == 0) return ok_status();
  if (errno != EINVAL) return errno_status(errno, "cannot share mount " + directory_);
  if (mount(dir, dir, "none", MS_BIND | MS_REC, nullptr) != 0) {
    return errno_status(errno, "cannot mount " + directory_);
  }
  if (mount("", dir, "none", MS_SHARED | MS_REC, nullptr) != 0) {
    return errno_status(errno, "cannot share mount " + directory_);
  }
  return ok_status();
}

std::string NamespaceDir::path(std::string_view name) const {
  return fmt::format("{}/{}", directory_, name);
}

Status NamespaceDir::enter(std::string_view name, bool* created) {
  MUSTER_TRY(check_name(name));
  *created = false;
  const std::string file = path(name);
  const int fd = open(file.c_str(), O_RDONLY | O_CREAT | O_CLOEXEC, 0444);
  if (fd < 0) return errno_status(errno, "cannot make " + file);
  struct statfs fs {};
  const bool pinned = fstatfs(fd, &fs) == 0 && fs.f_type == kNsfsMagic;
  if (pinned) {
    const int error = setns(fd, CLONE_NEWNET) == 0 ? 0 : errno;
    close(fd);
    return error == 0 ? ok_status() : errno_status(error, "cannot enter network namespace " + file);
  }
  close(fd);
  if (unshare(CLONE_NEWNET) != 0) return errno_status(errno, "cannot make a network namespace");
  if (mount("/proc/thread-self/ns/net", file.c_str(), "none", MS_BIND, nullptr) != 0) {
    const int error = errno;
    unlink(file.c_str());
    return errno_status(error, "cannot pin network namespace " + file);
  }
  *created = true;
  return ok_status();
}

Status NamespaceDir::pin(std::string_view name, int fd) {
  MUSTER_TRY(remove(name));
  const std::string file = path(name);
  const UniqueFd made(open(file.c_str(), O_RDONLY | O_CREAT | O_CLOEXEC, 0444));
  if (!made) return errno_status(errno, "cannot make " + file);
  const std::string source = fmt::format("/proc/thread-self/fd/{}", fd);
  if (mount(source.c_str(), file.c_str(), "none", MS_BIND, nullptr) != 0) {
    return errno_status(errno, "cannot pin network namespace " + file);
  }
  return ok_status();
}

Status NamespaceDir::remove(std::string_view name) {
  MUSTER_TRY(check_name(name));
  const std::string file = path(name);
  // EINVAL: a file that is no mount, left by a crash between the two steps.
  if (umount2(file.c_str(), MNT_DETACH) != 0 && errno != EINVAL && errno != ENOENT) {
    return errno_status(errno, "cannot unmount " + file);
  }
  if (unlink(file.c_str()) != 0 && errno != ENOENT) return errno_status(errno, "remove " + file);
  return ok_status();
}

Result<std::vector<std::string>> NamespaceDir::list() const {
  std::vector<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator it(directory_, error), end; !error && it != end;
       it.increment(error)) {
    names.push_back(it->path().filename().string());
  }
  if (error && error != std::errc::no_such_file_or_directory) {
    return fail(errno_status(error.value(), "cannot list " + directory_));
  }
  return names;
}

Status NamespaceDir::remove_directory() {
  if (umount2(directory_.c_str(), MNT_DETACH) != 0 && errno != EINVAL && errno != ENOENT) {
    return errno_status(errno, "cannot unmount " + directory_);
  }
  if (rmdir(directory_.c_str()) != 0 && errno != ENOENT) {
    return errno_status(errno, "cannot remove " + directory_);
  }
  return ok_status();
}

}  // namespace muster::overlay
