#include "deploy/lab/node_space.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <cerrno>

#include "agent/runtime/cgroup.h"
#include "agent/runtime/host_facts.h"
#include "deploy/lab/node_init.h"
#include "overlay/dataplane/kernel/namespaces.h"

extern char** environ;

namespace muster::deploy::lab {
namespace {

constexpr Duration kLaunchTimeout = 10s;

std::string read_to_end(int fd) {
  std::string text;
  char buffer[1024];
  while (true) {
    const ssize_t n = read(fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return text;
    text.append(buffer, static_cast<size_t>(n));
  }
}

std::string one_line(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text.substr(text.rfind('\n') + 1);
}

Status move_to_cgroup(int64_t pid, const std::string& cgroup) {
  const agent::Cgroups cgroups(agent::probe_host().cgroups);
  return cgroups.adopt_process(cgroup, pid).with_context("lab's cgroup");
}

}  // namespace

Result<InitProcess> create_node(const std::string& muster, const std::string& lab_dir,
                                const std::string& node, const std::string& cgroup) {
  ProcessOptions options;
  options.argv = {muster, std::string(kInitWords[0]), std::string(kInitWords[1]), lab_dir, node};
  options.out = ProcessOptions::Stream::kPipe;
  options.err = ProcessOptions::Stream::kPipe;
  options.new_session = true;
  options.working_dir = "/";
  Result<Process> started = fail(internal_error("not started"));
  MUSTER_TRY(overlay::on_own_thread([&] {
    if (unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWPID | CLONE_NEWNET) != 0)
      return errno_status(errno, "cannot make the namespaces of " + node);
    started = Process::spawn(options);
    return started ? ok_status() : started.error();
  }));
  Process process = *std::move(started);
  const std::string said = read_to_end(process.stdout_pipe.get());
  if (said != kInitReady) {
    return fail(internal_error("cannot furnish {}: {}", node,
                               one_line(read_to_end(process.stderr_pipe.get()))));
  }
  MUSTER_TRY(move_to_cgroup(process.pid(), cgroup));
  process.detach();
  auto init = find_init(lab_dir, node);
  if (!init) return fail(internal_error("process 1 of {} has ended", node));
  return *std::move(init);
}

Status in_network_of(const InitProcess& init, const std::function<Status()>& work) {
  return overlay::on_own_thread([&] {
    if (setns(init.process.pidfd.get(), CLONE_NEWNET) != 0)
      return errno_status(errno, "cannot enter the network of " + init.node);
    return work();
  });
}

Result<Process> spawn_inside(const InitProcess& init, ProcessOptions options) {
  Result<Process> started = fail(internal_error("not started"));
  MUSTER_TRY(overlay::on_own_thread([&] {
    // Threads share root and working directory, which a mount namespace brings its own of.
    if (unshare(CLONE_FS) != 0 ||
        setns(init.process.pidfd.get(), CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWPID | CLONE_NEWNET) !=
            0)
      return errno_status(errno, "cannot enter " + init.node);
    if (options.working_dir.empty()) options.working_dir = "/";
    started = Process::spawn(options);
    return started ? ok_status() : started.error();
  }));
  return started;
}

Status launch_inside(const InitProcess& init, std::vector<std::string> argv,
                     const std::string& log) {
  const UniqueFd file(open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!file) return errno_status(errno, log);
  ProcessOptions options;
  options.argv = std::move(argv);
  // It forks and ends, and the program is then a child of the node's process 1: nobody else is sure
  // to be there to reap it.
  options.argv.insert(options.argv.begin(), {"setsid", "--fork"});
  options.env = clean_environment({});
  options.inherit = {{file.get(), 1}, {file.get(), 2}};
  MUSTER_ASSIGN(Process process, spawn_inside(init, options));
  MUSTER_ASSIGN(const auto exit, process.wait(kLaunchTimeout));
  if (!exit) return internal_error("{} could not be started in {}", options.argv[2], init.node);
  if (!exit->success())
    return internal_error("{} could not be started in {}: {}", options.argv[2], init.node,
                          exit->to_string());
  return ok_status();
}

Status adopt(const Held& process, const std::string& cgroup) {
  return move_to_cgroup(process.view.pid, cgroup);
}

std::vector<std::string> clean_environment(const std::map<std::string, std::string>& extra) {
  std::vector<std::string> out;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    // A registry takes its configuration from there as well, and systemd's socket is the host's.
    if (text.starts_with("REGISTRY_") || text.starts_with("MUSTER_") ||
        text.starts_with("NOTIFY_SOCKET="))
      continue;
    if (extra.contains(text.substr(0, text.find('=')))) continue;
    out.push_back(text);
  }
  for (const auto& [name, value] : extra) out.push_back(fmt::format("{}={}", name, value));
  return out;
}

}  // namespace muster::deploy::lab
