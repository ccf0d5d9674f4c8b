#include "agent/doctor/linux_host_tests.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <sstream>
#include <utility>

#include "agent/doctor/echo_probe.h"
#include "agent/doctor/esp_probe.h"
#include "agent/doctor/name_query.h"
#include "base/file.h"
#include "base/fnv.h"
#include "base/unique_fd.h"
#include "overlay/dataplane/host/forward_policy.h"
#include "overlay/dataplane/kernel/links.h"
#include "overlay/dataplane/kernel/namespaces.h"
#include "overlay/dataplane/kernel/netlink.h"
#include "overlay/dataplane/kernel/sysctl.h"
#include "overlay/dataplane/segment/probe_tunnel.h"

namespace muster::agent {
namespace {

using Steady = std::chrono::steady_clock;

constexpr Duration kRoundMin = 100ms;
// Rounds to many peers come slower, so that frames stay few.
constexpr Duration kRoundPerPeer = 1ms;
// Others that are not done ask every round; when nobody does, all are done.
constexpr Duration kQuiet = 2s;
constexpr const char* kResolver = "127.0.0.11";
constexpr uint16_t kResolverPort = 53;
constexpr int kAsked = 3;  // times at most
// A host says sooner than that nobody listens for datagrams.
constexpr auto kDatagramLimit = std::chrono::milliseconds(500);

int ms_until(Steady::time_point when) {
  const auto left =
      std::chrono::duration_cast<std::chrono::milliseconds>(when - Steady::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left + 1, 0, 100'000));
}

// Runs `work` in a network namespace; in that of the caller if none is named.
Status in_namespace(const std::string& netns, const std::function<Status()>& work) {
  return netns.empty() ? overlay::on_own_thread(work) : overlay::in_namespace(netns, work);
}

struct Address {
  sockaddr_storage storage{};
  socklen_t size = 0;
};

std::optional<Address> address_of(const std::string& text, uint16_t port) {
  Address out;
  auto* v4 = reinterpret_cast<sockaddr_in*>(&out.storage);
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&out.storage);
  if (inet_pton(AF_INET, text.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    out.size = sizeof *v4;
  } else if (inet_pton(AF_INET6, text.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    out.size = sizeof *v6;
  } else {
    return std::nullopt;
  }
  return out;
}

HostTests::Answer answer_of(int error) {
  switch (error) {
    case 0: return HostTests::Answer::kAccepted;
    case ECONNREFUSED: return HostTests::Answer::kRefused;
    case ETIMEDOUT: return HostTests::Answer::kSilent;
    default: return HostTests::Answer::kUnreachable;
  }
}

// One connection that is tried.
struct Trial {
  UniqueFd fd;  // while there is something to wait for
  bool udp = false;
  HostTests::Answer answer = HostTests::Answer::kSilent;
};

class LinuxHostTests final : public HostTests {
 public:
  using HostTests::connect;
  void test_tunnels(const TunnelTest& test,
                    std::function<void(const Result<Heard>&)> tell) override;
  std::vector<Result<std::vector<Answer>>> connect(const std::vector<Connects>& from,
                                                   Duration limit) override;
  Result<std::vector<Named>> ask_names(const std::string& netns,
                                       const std::vector<Question>& questions,
                                       Duration limit) override;
  std::vector<Result<std::vector<bool>>> echo(const std::vector<Echoes>& from,
                                              Duration limit) override;
  Refusals refusals() override;
  std::optional<std::string> setting(const std::string& key) override {
    auto value = overlay::read_sysctl(key);
    return value ? std::optional(*std::move(value)) : std::nullopt;
  }
  std::vector<std::string> forward_drops() override;
  bool has_address(const std::string& address) override;
  void stop() override { stopped_ = true; }

 private:
  // False when all is to end.
  bool wait(std::vector<pollfd>& fds, Steady::time_point until) const;
  // The talk of nodes (beacons.h) over a line: a tunnel, or what looks like one.
  template <class Line>
  void talk(const TunnelTest& test, Line& line,
            const std::function<void(const Result<Heard>&)>& tell);
  void await_answers(const std::vector<Trial*>& trials, Steady::time_point until) const;

  std::atomic<bool> stopped_ = false;
  std::atomic<uint16_t> echoes_ = static_cast<uint16_t>(Steady::now().time_since_epoch().count());
};

bool LinuxHostTests::wait(std::vector<pollfd>& fds, Steady::time_point until) const {
  constexpr int kLook = 200;  // ms, at stopped_
  (void)poll(fds.data(), fds.size(), std::min(ms_until(until), kLook));
  return !stopped_;
}

// ---------------------------------------------------------------- tunnels

Result<std::unique_ptr<overlay::ProbeTunnel>> open_tunnel(const HostTests::TunnelTest& test) {
  overlay::ProbeTunnel::Spec spec;
  spec.vni =
      overlay::ProbeTunnel::kFirstVni + fnv1a_32(test.examination_id) % overlay::ProbeTunnel::kVnis;
  MUSTER_ASSIGN(spec.local, overlay::Ip::parse(test.local_addr));
  spec.port = test.port;
  spec.mtu = test.mtu;
  spec.self = test.self;
  for (const auto& [name, address] : test.peers) {
    const auto ip = overlay::Ip::parse(address);
    if (ip) spec.peers.push_back({name, *ip});
  }
  return overlay::ProbeTunnel::open(spec);
}

void LinuxHostTests::test_tunnels(const TunnelTest& test,
                                  std::function<void(const Result<Heard>&)> tell) {
  if (test.way == Way::kVxlan) {
    auto tunnel = open_tunnel(test);
    if (!tunnel) return tell(fail(tunnel.error()));
    return talk(test, **tunnel, tell);
  }
  auto probe = EspProbe::open(test, test.way == Way::kEsp ? 0 : test.port);
  if (!probe) return tell(fail(probe.error()));
  talk(test, **probe, tell);
}

template <class Line>
void LinuxHostTests::talk(const TunnelTest& test, Line& line,
                          const std::function<void(const Result<Heard>&)>& tell) {
  std::vector<std::string> names;
  for (const auto& [name, address] : test.peers) names.push_back(name);
  Beacons beacons(test.examination_id, test.self, names, test.mtu);
  const auto began = Steady::now();
  const auto patience = began + test.patience;
  const auto whole = began + test.whole;
  const auto period = std::max(kRoundMin, kRoundPerPeer * static_cast<int64_t>(names.size()));
  auto next_round = began;
  auto heard_at = began;
  bool told = false;
  std::vector<pollfd> fds = {{line.fd(), POLLIN, 0}};
  for (;;) {
    const auto now = Steady::now();
    if (!told && (beacons.finished() || now >= patience)) {
      told = true;
      Heard heard;
      for (const auto& [name, peer] : beacons.peers()) heard[name] = peer.heard;
      tell(heard);
    }
    if (now >= whole || (told && now - heard_at >= kQuiet)) return;
    if (!told && now >= next_round) {
      for (const auto& frame : beacons.round()) line.send(frame.peer, frame.content);
      next_round = now + period;
    }
    const auto until = told ? std::min(whole, heard_at + kQuiet) : std::min(next_round, patience);
    if (!wait(fds, until)) {
      if (!told) tell(fail(StatusCode::kCancelled, "musterd stops"));
      return;
    }
    while (const auto content = line.receive()) {
      heard_at = Steady::now();
      for (const auto& frame : beacons.received(*content)) {
        line.send(frame.peer, frame.content);
      }
    }
  }
}

// ---------------------------------------------------------------- connections

// By the thread that is in the namespace which it is tried from.
Trial begin_trial(const HostTests::Target& target) {
  using Answer = HostTests::Answer;
  Trial out;
  out.udp = target.protocol == HostTests::Protocol::kUdp;
  const auto address = address_of(target.address, target.port);
  if (!address) {
    out.answer = Answer::kUnreachable;
    return out;
  }
  UniqueFd fd(::socket(address->storage.ss_family,
                       (out.udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC | SOCK_NONBLOCK,
                       target.protocol == HostTests::Protocol::kSctp ? IPPROTO_SCTP : 0));
  // For want of the protocol, or of descriptors: that tells nothing of the target.
  if (!fd) {
    out.answer = Answer::kUntried;
    return out;
  }
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address->storage), address->size) !=
      0) {
    if (errno != EINPROGRESS) {
      out.answer = answer_of(errno);
    } else {
      out.fd = std::move(fd);
    }
    return out;
  }
  out.answer = Answer::kAccepted;
  if (!out.udp) return out;
  out.answer = ::send(fd.get(), "", 0, MSG_NOSIGNAL) == 0 ? Answer::kSilent : answer_of(errno);
  if (out.answer == Answer::kSilent) out.fd = std::move(fd);
  return out;
}

void LinuxHostTests::await_answers(const std::vector<Trial*>& trials,
                                   Steady::time_point until) const {
  const auto datagrams_until = std::min(until, Steady::now() + kDatagramLimit);
  for (;;) {
    std::vector<pollfd> fds;
    std::vector<Trial*> waiting;
    const bool datagrams_over = Steady::now() >= datagrams_until;
    bool datagrams = false;
    for (Trial* trial : trials) {
      if (trial->udp && datagrams_over) trial->fd.reset();
      if (!trial->fd) continue;
      datagrams = datagrams || trial->udp;
      fds.push_back({trial->fd.get(), static_cast<short>(trial->udp ? POLLIN : POLLOUT), 0});
      waiting.push_back(trial);
    }
    if (fds.empty() || Steady::now() >= until) return;
    if (!wait(fds, datagrams ? datagrams_until : until)) return;
    for (size_t i = 0; i < fds.size(); ++i) {
      if (fds[i].revents == 0) continue;
      int error = 0;
      socklen_t size = sizeof error;
      getsockopt(fds[i].fd, SOL_SOCKET, SO_ERROR, &error, &size);
      waiting[i]->answer = answer_of(error);
      waiting[i]->fd.reset();
    }
  }
}

std::vector<Result<std::vector<HostTests::Answer>>> LinuxHostTests::connect(
    const std::vector<Connects>& from, Duration limit) {
  const auto until = Steady::now() + limit;
  std::vector<Status> begun;
  std::vector<std::vector<Trial>> trials(from.size());
  for (size_t i = 0; i < from.size(); ++i) {
    begun.push_back(in_namespace(from[i].netns, [&]() -> Status {
      for (const Target& target : from[i].targets) trials[i].push_back(begin_trial(target));
      return ok_status();
    }));
  }
  // A socket stays in the namespace that it was made in, whoever waits for it.
  std::vector<Trial*> all;
  for (auto& some : trials) {
    for (Trial& trial : some) all.push_back(&trial);
  }
  await_answers(all, until);
  std::vector<Result<std::vector<Answer>>> out;
  for (size_t i = 0; i < from.size(); ++i) {
    if (!begun[i].ok()) {
      out.emplace_back(fail(begun[i]));
      continue;
    }
    std::vector<Answer> answers;
    for (const Trial& trial : trials[i]) answers.push_back(trial.answer);
    out.emplace_back(std::move(answers));
  }
  return out;
}

// ---------------------------------------------------------------- names

Result<std::vector<HostTests::Named>> LinuxHostTests::ask_names(
    const std::string& netns, const std::vector<Question>& questions, Duration limit) {
  UniqueFd socket;
  MUSTER_TRY(in_namespace(netns, [&]() -> Status {
    socket = UniqueFd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket) return errno_status(errno, "cannot open a socket");
    const auto resolver = address_of(kResolver, kResolverPort);
    if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&resolver->storage),
                  resolver->size) != 0) {
      return errno_status(errno, "cannot reach 127.0.0.11");
    }
    return ok_status();
  }));
  std::vector<Named> out(questions.size());
  size_t open = questions.size();
  const auto began = Steady::now();
  std::string buffer(65'536, '\0');
  std::vector<pollfd> fds = {{socket.get(), POLLIN, 0}};
  const auto take = [&] {
    for (;;) {
      const ssize_t got = recv(socket.get(), buffer.data(), buffer.size(), 0);
      if (got < 0 && (errno == EINTR || errno == ECONNREFUSED)) continue;
      if (got < 0) return;
      auto reply = parse_name_reply(std::string_view(buffer).substr(0, static_cast<size_t>(got)));
      if (!reply || reply->id >= out.size() || out[reply->id].answered) continue;
      out[reply->id] = std::move(reply->named);
      --open;
    }
  };
  for (int times = 1; times <= kAsked && open > 0 && !stopped_; ++times) {
    for (size_t i = 0; i < questions.size(); ++i) {
      if (out[i].answered) continue;
      const std::string query = name_query(static_cast<uint16_t>(i), questions[i]);
      (void)::send(socket.get(), query.data(), query.size(), MSG_NOSIGNAL);
      take();  // nothing piles up
    }
    const auto until = began + limit * times / kAsked;
    while (open > 0 && Steady::now() < until && wait(fds, until)) take();
  }
  return out;
}

// ---------------------------------------------------------------- echoes

std::vector<Result<std::vector<bool>>> LinuxHostTests::echo(const std::vector<Echoes>& from,
                                                            Duration limit) {
  std::vector<Result<EchoProbe>> probes;
  for (const Echoes& some : from) {
    std::optional<Result<EchoProbe>> opened;
    const Status entered = in_namespace(some.netns, [&]() -> Status {
      opened = EchoProbe::open(++echoes_, some.addresses);
      return ok_status();
    });
    probes.push_back(opened ? *std::move(opened) : fail(entered));
  }
  std::vector<pollfd> fds;
  for (const auto& probe : probes) {
    if (!probe) continue;
    for (const int fd : probe->fds()) fds.push_back({fd, POLLIN, 0});
  }
  const auto finished = [&] {
    return std::all_of(probes.begin(), probes.end(),
                       [](const auto& probe) { return !probe || probe->finished(); });
  };
  const auto began = Steady::now();
  for (int times = 1; times <= kAsked && !finished() && !stopped_; ++times) {
    for (auto& probe : probes) {
      if (!probe) continue;
      probe->ask();
      probe->take();  // nothing piles up
    }
    const auto until = began + limit * times / kAsked;
    while (!finished() && Steady::now() < until && wait(fds, until)) {
      for (auto& probe : probes) {
        if (probe) probe->take();
      }
    }
  }
  std::vector<Result<std::vector<bool>>> out;
  for (const auto& probe : probes) {
    out.push_back(probe ? Result<std::vector<bool>>(probe->answered()) : fail(probe.error()));
  }
  return out;
}

// "XfrmInNoStates           	3", a line each; nothing on a kernel that does not count.
HostTests::Refusals LinuxHostTests::refusals() {
  Refusals out;
  const auto text = read_file("/proc/net/xfrm_stat", 1 << 16);
  if (!text) return out;
  std::istringstream lines(*text);
  std::string name;
  uint64_t count = 0;
  while (lines >> name >> count) out[name] = count;
  return out;
}

std::vector<std::string> LinuxHostTests::forward_drops() {
  std::vector<std::string> out;
  const auto drops = overlay::forward_drops();
  if (!drops) return out;
  for (const overlay::DroppingChain& chain : *drops) {
    out.push_back(fmt::format("chain {} of table {} {}", chain.name, chain.family, chain.table));
  }
  return out;
}

bool LinuxHostTests::has_address(const std::string& address) {
  const auto wanted = overlay::Ip::parse(address);
  auto socket = overlay::NetlinkSocket::open(NETLINK_ROUTE);
  if (!wanted || !socket) return false;
  const auto addresses = overlay::list_addresses(*socket);
  // What cannot be looked at is not said to be wrong.
  if (!addresses) return true;
  return std::any_of(addresses->begin(), addresses->end(),
                     [&](const auto& entry) { return entry.second.ip == *wanted; });
}

}  // namespace

std::unique_ptr<HostTests> make_linux_host_tests() {
  return std::make_unique<LinuxHostTests>();
}

}  // namespace muster::agent
