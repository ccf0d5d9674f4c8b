#include "agent/runtime/spawn.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

namespace muster::agent {
namespace {

// Owns the two attribute objects of posix_spawn.
struct SpawnObjects {
  SpawnObjects() {
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawnattr_init(&attributes);
  }
  ~SpawnObjects() {
    ::posix_spawn_file_actions_destroy(&actions);
    ::posix_spawnattr_destroy(&attributes);
  }
  SpawnObjects(const SpawnObjects&) = delete;
  SpawnObjects& operator=(const SpawnObjects&) = delete;

  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
};

std::vector<char*> pointers(const std::vector<std::string>& list) {
  std::vector<char*> out;
  for (const std::string& item : list) out.push_back(const_cast<char*>(item.c_str()));
  out.push_back(nullptr);
  return out;
}

}  // namespace

Result<pid_t> spawn(const SpawnRequest& request) {
  SpawnObjects objects;
  int highest = 2;
  for (int target = 0; target <= 2; ++target) {
    const bool named = std::any_of(request.descriptors.begin(), request.descriptors.end(),
                                   [&](const auto& pair) { return pair.second == target; });
    if (!named) {
      ::posix_spawn_file_actions_addopen(&objects.actions, target, "/dev/null",
                                         target == 0 ? O_RDONLY : O_WRONLY, 0);
    }
  }
  for (const auto& [from, to] : request.descriptors) {
    // A source that is another pair's target would be overwritten before its turn; callers pass
    // close-on-exec descriptors of their own, which are far above the few targets used.
    ::posix_spawn_file_actions_adddup2(&objects.actions, from, to);
    highest = std::max(highest, to);
  }
  ::posix_spawn_file_actions_addclosefrom_np(&objects.actions, highest + 1);
  if (!request.dir.empty()) {
    ::posix_spawn_file_actions_addchdir_np(&objects.actions, request.dir.c_str());
  }
  sigset_t all;
  sigset_t none;
  sigfillset(&all);
  sigemptyset(&none);
  ::posix_spawnattr_setsigdefault(&objects.attributes, &all);
  ::posix_spawnattr_setsigmask(&objects.attributes, &none);
  short flags = POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK;
  if (request.new_session) flags |= POSIX_SPAWN_SETSID;
  ::posix_spawnattr_setflags(&objects.attributes, flags);

  pid_t pid = 0;
  const std::vector<char*> argv = pointers(request.argv);
  const std::vector<char*> env = pointers(request.env);
  const int error =
      ::posix_spawn(&pid, argv[0], &objects.actions, &objects.attributes, argv.data(), env.data());
  if (error != 0) return fail(errno_status(error, "starting " + request.argv[0]));
  return pid;
}

Result<int> wait_exit(pid_t pid) {
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) return fail(errno_status(errno, fmt::format("waiting for pid {}", pid)));
  }
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

Result<std::pair<UniqueFd, UniqueFd>> make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return fail(errno_status(errno, "pipe"));
  // Kept clear of the low numbers that spawn() maps to.
  for (int& end : ends) {
    if (end > 9) continue;
    const int moved = ::fcntl(end, F_DUPFD_CLOEXEC, 10);
    ::close(end);
    end = moved;
  }
  return std::make_pair(UniqueFd(ends[0]), UniqueFd(ends[1]));
}

UniqueFd open_pidfd(int64_t pid) {
  return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, static_cast<pid_t>(pid), 0)));
}

std::string find_program(const std::string& name) {
  if (name.find('/') != std::string::npos) return ::access(name.c_str(), X_OK) == 0 ? name : "";
  const char* set = ::getenv("PATH");
  std::string path = set != nullptr ? set : "";
  path += ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find(':', begin), path.size());
    const std::string candidate = path.substr(begin, end - begin) + "/" + name;
    if (end > begin && ::access(candidate.c_str(), X_OK) == 0) return candidate;
    begin = end + 1;
  }
  return "";
}

}  // namespace muster::agent
