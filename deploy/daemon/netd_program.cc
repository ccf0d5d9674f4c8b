#include "deploy/daemon/netd_program.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>

#include <filesystem>

#include "agent/runtime/cgroup.h"
#include "agent/runtime/host_facts.h"
#include "agent/runtime/oci_bundle.h"
#include "base/process.h"
#include "base/rng.h"
#include "overlay/dns/netd/netd.h"

namespace muster::daemon {
namespace {

// One that is short of processor time gains nothing by being started anew.
constexpr Duration kLaunchTimeout = 30s;

struct NetdArguments {
  std::string run_dir;
  std::string instance_id;
  std::string log_level = "info";
  std::string log_format = "text";
  bool background = false;
  bool take_over = false;
};

// Two sockets a container, and one a question to another resolver.
void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

// Out of musterd's cgroup, whose end is not ours.
void enter_own_cgroup(const std::string& instance_id, const Log& log) {
  const agent::Cgroups cgroups(agent::probe_host().cgroups);
  const Status moved =
      cgroups.adopt_process(agent::cgroup_path(instance_id, agent::kNetdCgroup), getpid());
  if (!moved.ok()) log->warn("stays in the cgroup it was started in: {}", moved.message());
}

// The parent ends here, which tells musterd that the socket is there.
Status go_to_background() {
  const pid_t child = fork();
  if (child < 0) return errno_status(errno, "fork");
  if (child > 0) _exit(0);
  setsid();
  return ok_status();
}

Status serve(const NetdArguments& arguments, const Log& log) {
  if (geteuid() != 0) return permission_denied("netd needs root, for network namespaces");
  signal(SIGPIPE, SIG_IGN);
  if (chdir("/") != 0) return errno_status(errno, "/");
  raise_descriptor_limit();
  if (!arguments.instance_id.empty()) enter_own_cgroup(arguments.instance_id, log);
  SystemRng rng;
  overlay::dns::NetdOptions options;
  options.run_dir = arguments.run_dir;
  options.build = program_build();
  options.take_over = arguments.take_over;
  overlay::dns::Netd netd(options, rng, log);
  MUSTER_TRY(netd.open());
  if (arguments.background) MUSTER_TRY(go_to_background());
  return netd.run();
}

}  // namespace

int netd_main(int argc, char** argv) {
  NetdArguments arguments;
  CLI::App app{"Holds the resolvers of this node's containers; started by musterd.",
               "musterd netd"};
  app.add_option("--run-dir", arguments.run_dir, "Folder of the socket, of one instance")
      ->required();
  app.add_option("--instance-id", arguments.instance_id, "Names the cgroup");
  app.add_option("--log-level", arguments.log_level, "debug, info, warn or error");
  app.add_option("--log-format", arguments.log_format, "text or json")
      ->check(CLI::IsMember({"text", "json"}));
  app.add_flag("--take-over", arguments.take_over, "Go on where another netd is");
  app.add_flag("--background", arguments.background, "Return once the socket is there");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const bool help = error.get_exit_code() == 0;
    fmt::print(help ? stdout : stderr, "{}\n",
               help ? app.help() : std::string("musterd netd: ") + error.what());
    return help ? 0 : 2;
  }
  const auto log = make_log("netd", arguments.log_level,
                            arguments.log_format == "json" ? LogFormat::kJson : LogFormat::kText);
  if (!log) {
    fmt::print(stderr, "musterd netd: {}\n", log.error().message());
    return 2;
  }
  const Status served = serve(arguments, *log);
  if (served.ok()) return 0;
  fmt::print(stderr, "musterd netd: {}\n", served.message());
  return 1;
}

std::string program_build() {
  struct stat file {};
  if (::stat("/proc/self/exe", &file) != 0) return {};
  return fmt::format("{}:{}:{}.{}", file.st_dev, file.st_ino, file.st_mtim.tv_sec,
                     file.st_mtim.tv_nsec);
}

Result<std::function<Status(bool)>> netd_launcher(const Options& options,
                                                  const std::string& instance_id) {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return fail(errno_status(error.value(), "/proc/self/exe"));
  ProcessOptions process;
  process.argv = {self.string(),   "netd",
                  "--run-dir",     (options.run_dir / instance_id).string(),
                  "--instance-id", instance_id,
                  "--log-level",   options.log_level,
                  "--log-format",  options.log_format == LogFormat::kJson ? "json" : "text",
                  "--background"};
  process.new_session = true;
  process.err = ProcessOptions::Stream::kInherit;
  return std::function<Status(bool)>([process](bool take_over) -> Status {
    ProcessOptions options = process;
    if (take_over) options.argv.push_back("--take-over");
    MUSTER_ASSIGN(Process started, Process::spawn(options));
    MUSTER_ASSIGN(const auto ended, started.wait(kLaunchTimeout));
    if (!ended) return Status(StatusCode::kDeadlineExceeded, "netd did not start in time");
    if (!ended->success()) return internal_error("netd did not start: {}", ended->to_string());
    return ok_status();
  });
}

}  // namespace muster::daemon
