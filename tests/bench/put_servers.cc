#include "tests/bench/put_servers.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <sstream>

#include "base/file.h"
#include "base/unique_fd.h"

namespace muster::bench {
namespace {

constexpr auto kLeaderPatience = std::chrono::seconds(30);
constexpr int kLeaderPollMs = 50;

}  // namespace

Status PutServers::launch(std::vector<std::string> argv, const std::string& processors,
                          const std::filesystem::path& log) {
  const UniqueFd file(open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!file) return errno_status(errno, log.string());
  ProcessOptions options;
  options.argv = std::move(argv);
  if (!processors.empty()) options.argv.insert(options.argv.begin(), {"taskset", "-c", processors});
  // A bench that is killed leaves no servers behind.
  options.argv.insert(options.argv.begin(), {"setpriv", "--pdeathsig", "KILL"});
  options.inherit = {{file.get(), 1}, {file.get(), 2}};
  MUSTER_ASSIGN(Process process, Process::spawn(options));
  processes_.push_back(std::move(process));
  logs_.push_back(log);
  return ok_status();
}

Result<PutTarget> PutServers::leader() {
  const auto deadline = std::chrono::steady_clock::now() + kLeaderPatience;
  while (true) {
    uint64_t leader = 0;
    const PutTarget* found = nullptr;
    size_t agreed = 0;
    for (const PutTarget& target : targets_) {
      const auto status = ask_status(target, 2s);
      if (!status || status->leader == 0) continue;
      if (leader == 0) leader = status->leader;
      if (status->leader == leader) ++agreed;
      if (status->member == leader) found = &target;
    }
    if (agreed == targets_.size() && found != nullptr) return *found;
    for (size_t i = 0; i < processes_.size(); ++i) {
      MUSTER_ASSIGN(const auto ended, processes_[i].wait(Duration(0)));
      if (ended) {
        const std::string log = read_file(logs_[i]).value_or("");
        return fail(unavailable("a server ended ({}): {}", ended->to_string(),
                                log.substr(log.size() > 2000 ? log.size() - 2000 : 0)));
      }
    }
    if (std::chrono::steady_clock::now() >= deadline)
      return fail(unavailable("the servers agree on no leader"));
    poll(nullptr, 0, kLeaderPollMs);
  }
}

Duration PutServers::cpu_time() const {
  const double tick_s = 1.0 / static_cast<double>(sysconf(_SC_CLK_TCK));
  double seconds = 0;
  for (const Process& process : processes_) {
    const std::string text = read_file(fmt::format("/proc/{}/stat", process.pid())).value_or("");
    // "PID (NAME) STATE ...": utime and stime are the 14th and 15th fields.
    std::istringstream fields(text.substr(std::min(text.size(), text.rfind(')') + 1)));
    std::string skip;
    for (int i = 3; i < 14; ++i) fields >> skip;
    double user = 0, system = 0;
    fields >> user >> system;
    seconds += (user + system) * tick_s;
  }
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
}

uint16_t free_port() {
  const UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size);
  getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size);
  return ntohs(address.sin_port);
}

}  // namespace muster::bench
