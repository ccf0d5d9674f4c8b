#include <fmt/core.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/crash_report.h"
#include "base/security/tls/credentials.h"
#include "deploy/daemon/daemon.h"
#include "deploy/daemon/grpc_log.h"
#include "deploy/daemon/netd_program.h"
#include "deploy/daemon/options.h"

namespace {

// Tells systemd (Type=notify) that the node is ready; sd_notify(3) is one datagram.
void notify_ready() {
  const char* path = std::getenv("NOTIFY_SOCKET");
  if (path == nullptr || std::strlen(path) >= sizeof(sockaddr_un::sun_path)) return;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path, std::strlen(path));
  if (address.sun_path[0] == '@') address.sun_path[0] = '\0';
  const muster::UniqueFd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  constexpr char kReady[] = "READY=1";
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + std::strlen(path));
  sendto(fd.get(), kReady, sizeof kReady - 1, MSG_NOSIGNAL,
         reinterpret_cast<const sockaddr*>(&address), size);
}

// A node, from its start to a signal; or the end of the containers that one has left.
int run(const muster::daemon::Options& options, const muster::Log& log, const sigset_t& signals) {
  muster::daemon::Daemon daemon(options, log);
  if (options.end_containers) {
    pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);  // may be broken off, and run again
    const muster::Status ended = daemon.end_containers();
    if (!ended.ok()) fmt::print(stderr, "musterd: {}\n", ended.message());
    return ended.ok() ? 0 : 1;
  }
  if (const muster::Status started = daemon.start(); !started.ok()) {
    fmt::print(stderr, "musterd: {}\n", started.message());
    return 1;
  }
  notify_ready();
  int received = 0;
  sigwait(&signals, &received);
  log->info("stopping on {}; containers keep running", strsignal(received));
  daemon.stop();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const bool netd = argc > 1 && std::strcmp(argv[1], "netd") == 0;
  muster::report_crashes(netd ? "musterd netd" : "musterd");
  if (netd) return muster::daemon::netd_main(argc - 1, argv + 1);
  const auto options = muster::daemon::parse_options(argc, argv);
  if (!options) {
    const bool help = options.error().code() == muster::StatusCode::kOutOfRange;
    fmt::print(help ? stdout : stderr, "{}{}\n",
               help ? "" : "musterd: ", options.error().message());
    return help ? 0 : 2;
  }
  if (options->show_version) {
    fmt::print("musterd {}\n", MUSTER_VERSION);
    return 0;
  }
  const auto log = muster::make_log("musterd", options->log_level, options->log_format);
  if (!log) {
    fmt::print(stderr, "musterd: {}\n", log.error().message());
    return 2;
  }
  if (geteuid() != 0) {
    fmt::print(stderr, "musterd: needs root, for containers and network namespaces\n");
    return 1;
  }
  muster::daemon::take_grpc_log(muster::child_log(*log, "grpc"));
  muster::security::require_tls13();
  muster::security::relax_grpc_locks();
  // Names of managers as the host resolves them. gRPC's own resolver takes 5 s for one in
  // /etc/hosts where no name server answers, which is all the time a join gives a manager.
  setenv("GRPC_DNS_RESOLVER", "native", 0);
  // What matters of it comes as a status and is logged as we log. Else it complains once a second
  // of every host that stands still, on standard error, in a form of its own.
  setenv("GRPC_VERBOSITY", "NONE", 0);

  // Before any thread starts, so that all of them leave the signals to this one.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);

  const int code = run(*options, *log, signals);
  // gRPC has threads of its own, which may be in the middle of a handshake yet; what is taken down
  // when a program returns, OpenSSL among it, would be taken from under them.
  std::fflush(nullptr);
  _exit(code);
}
