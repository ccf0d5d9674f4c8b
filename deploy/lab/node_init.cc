#include "deploy/lab/node_init.h"

#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <sstream>
#include <vector>

#include "base/file.h"

namespace muster::deploy::lab {
namespace {

// Mounts of other nodes of this machine: their containers' file systems and the pins of their
// network namespaces. A copy here would keep alive what they have given up.
std::vector<std::string> foreign_mounts(const std::string& mountinfo) {
  std::vector<std::string> out;
  std::istringstream lines(mountinfo);
  for (std::string line; std::getline(lines, line);) {
    // "ID PARENT MAJOR:MINOR ROOT TARGET OPTIONS [TAG...] - TYPE SOURCE OPTIONS"
    std::istringstream words(line);
    std::string skip, target, word, type;
    words >> skip >> skip >> skip >> skip >> target;
    while (words >> word && word != "-") {
    }
    words >> type;
    if (type == "nsfs" || (type == "overlay" && target.starts_with("/var/lib/")))
      out.push_back(target);
  }
  return out;
}

Status mount_over(const std::string& file, const char* target) {
  if (access(file.c_str(), F_OK) != 0 || access(target, F_OK) != 0) return ok_status();
  if (mount(file.c_str(), target, nullptr, MS_BIND, nullptr) != 0)
    return errno_status(errno, fmt::format("mount {} on {}", file, target));
  return ok_status();
}

Status furnish(const std::string& lab_dir, const std::string& node) {
  // What the machine mounts and unmounts later is seen here; what is mounted here stays here.
  if (mount("", "/", nullptr, MS_SLAVE | MS_REC, nullptr) != 0)
    return errno_status(errno, "take the mounts over");
  MUSTER_ASSIGN(const std::string mountinfo, read_file("/proc/self/mountinfo"));
  for (const std::string& target : foreign_mounts(mountinfo)) {
    // One below another is gone with it.
    if (umount2(target.c_str(), MNT_DETACH) != 0 && errno != EINVAL && errno != ENOENT)
      return errno_status(errno, "unmount " + target);
  }
  if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) != 0)
    return errno_status(errno, "mount /proc");
  const std::string etc = lab_dir + "/" + node + "/etc/";
  MUSTER_TRY(mount_over(etc + "hosts", "/etc/hosts"));
  MUSTER_TRY(mount_over(etc + "resolv.conf", "/etc/resolv.conf"));
  if (sethostname(node.data(), node.size()) != 0) return errno_status(errno, "set the host name");
  return ok_status();
}

}  // namespace

Status run_node_init(const std::string& lab_dir, const std::string& node) {
  if (getpid() != 1 || geteuid() != 0)
    return failed_precondition("this is a part of \"muster lab up\"");
  prctl(PR_SET_NAME, ("lab:" + node).c_str());
  sigset_t all;
  sigfillset(&all);
  sigprocmask(SIG_BLOCK, &all, nullptr);
  if (chdir("/") != 0) return errno_status(errno, "/");
  MUSTER_TRY(furnish(lab_dir, node));
  if (write(STDOUT_FILENO, kInitReady, std::strlen(kInitReady)) < 0)
    return errno_status(errno, "report");
  // Nobody reads any more, and the reader waits for the end of both.
  close(STDOUT_FILENO);
  close(STDERR_FILENO);
  while (true) {
    siginfo_t info{};
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigwaitinfo(&child, &info);
    while (waitpid(-1, nullptr, WNOHANG) > 0) {
    }
  }
}

}  // namespace muster::deploy::lab
