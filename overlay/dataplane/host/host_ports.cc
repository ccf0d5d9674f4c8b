#include "overlay/dataplane/host/host_ports.h"

#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "overlay/ipam/ip.h"
#include "overlay/ipam/port_pool.h"

namespace muster::overlay {
namespace {

// Of ports that the kernel has free in IPv4 alone, when one is to be picked.
constexpr size_t kPassedOverMax = 64;

// For a netd that has the port, and does not answer.
constexpr Duration kReachMax = 1s;

// States of sockets in /proc/net/tcp6 and udp6 (include/net/tcp_states.h): one that listens, and
// one of datagrams that takes them from anybody.
constexpr std::string_view kListen = "0A";
constexpr std::string_view kOpen = "07";

socklen_t to_sockaddr(const Ip& ip, uint32_t port, sockaddr_storage& out) {
  out = {};
  if (!ip.v6) {
    auto& v4 = reinterpret_cast<sockaddr_in&>(out);
    v4.sin_family = AF_INET;
    v4.sin_port = htons(static_cast<uint16_t>(port));
    v4.sin_addr.s_addr = htonl(static_cast<uint32_t>(ip.value));
    return sizeof(sockaddr_in);
  }
  auto& v6 = reinterpret_cast<sockaddr_in6&>(out);
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(static_cast<uint16_t>(port));
  for (size_t i = 0; i < 16; ++i) {
    v6.sin6_addr.s6_addr[i] = static_cast<uint8_t>(ip.value >> (8 * (15 - i)));
  }
  return sizeof(sockaddr_in6);
}

// Whether a relay may listen beside the socket that holds the port, at ::1.
bool is_shared(const FrontendKey& key, bool v6) {
  return key.protocol != v1::PortConfig::SCTP && (key.bind.empty() || key.bind == "lo") && v6;
}

// A socket that holds the port in one family, bound to every address or to the key's place, which
// this host need not have (yet). -errno on failure. Stream sockets listen, since a merely bound one
// does not keep others out who set SO_REUSEADDR; they set it themselves, so that connections of a
// former listener that linger are no obstacle. In IPv6 a relay shares the port, at ::1
// (SO_REUSEPORT, which the kernel grants to sockets of one user).
int bind_port(const FrontendKey& key, bool v6) {
  const bool stream = key.protocol != v1::PortConfig::UDP;
  const int number = key.protocol == v1::PortConfig::SCTP ? IPPROTO_SCTP : 0;
  const auto address = Ip::parse(key.bind);
  if (address) v6 = address->v6;
  const int on = 1;
  const int fd =
      socket(v6 ? AF_INET6 : AF_INET, (stream ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, number);
  if (fd < 0) return -errno;
  const auto failed = [fd] {
    const int error = errno;
    close(fd);
    return -error;
  };
  if (!key.bind.empty() && !address &&
      setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, key.bind.c_str(),
                 static_cast<socklen_t>(key.bind.size())) != 0) {
    return failed();
  }
  if (address) setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &on, sizeof(on));  // of IPv6, too
  sockaddr_storage storage{};
  const socklen_t length = to_sockaddr(address ? *address : Ip{v6, 0}, key.port, storage);
  if (v6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
  if (is_shared(key, v6)) setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
  if (stream) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  const bool bound = bind(fd, reinterpret_cast<const sockaddr*>(&storage), length) == 0;
  if (bound && (!stream || listen(fd, 1) == 0)) return fd;
  return failed();
}

bool listens_in(const char* table, std::string_view in_state, uint32_t port) {
  // ::1 as the table writes it, where only a relay of ours listens.
  constexpr std::string_view kLoopback6 = "00000000000000000000000001000000";
  std::ifstream file(table);
  std::string line;
  std::getline(file, line);
  while (std::getline(file, line)) {
    std::istringstream words(line);
    std::string slot, local, remote, state;
    words >> slot >> local >> remote >> state;
    const size_t colon = local.rfind(':');
    if (state != in_state || colon == std::string::npos) continue;
    if (std::string_view(local).substr(0, colon) == kLoopback6) continue;
    if (std::stoul(local.substr(colon + 1), nullptr, 16) == port) return true;
  }
  return false;
}

// Whether a TCP socket listens on the port in a family. An outgoing connection that has it as its
// own source port keeps us from binding, but does not serve it. What listens in IPv4 is no obstacle
// in IPv6, and may be ours; the other way round it may have both. Who listens at ::1 alone is met
// by the relay, which tells of it, and keeps that.
bool somebody_listens(uint32_t port, bool v6) {
  return (!v6 && listens_in("/proc/thread-self/net/tcp", kListen, port)) ||
         listens_in("/proc/thread-self/net/tcp6", kListen, port);
}

// A socket that holds the port in this family; none: it is held by nobody, and cannot be.
Result<UniqueFd> open(const FrontendKey& key, bool v6) {
  const std::string name = fmt::format("{}/{}", key.port, protocol_name(key.protocol));
  // Sharing has its price: another program that shares its ports would not be noticed.
  const bool tcp = key.protocol == v1::PortConfig::TCP;
  if (is_shared(key, v6) && (tcp ? listens_in("/proc/thread-self/net/tcp6", kListen, key.port)
                                 : listens_in("/proc/thread-self/net/udp6", kOpen, key.port))) {
    return fail(already_exists("port {} is in use on this node", name));
  }
  const int fd = bind_port(key, v6);
  if (fd >= 0) return UniqueFd(fd);
  if (fd == -EADDRINUSE && (!tcp || somebody_listens(key.port, v6))) {
    return fail(already_exists("port {} is in use on this node", name));
  }
  // A host without the protocol's sockets (SCTP as a module) can still forward it; one without the
  // address or interface does so when it gets them. One without IPv6 has nothing to hold there.
  const bool fine = fd == -EADDRINUSE || fd == -EPROTONOSUPPORT || fd == -ESOCKTNOSUPPORT ||
                    fd == -ENODEV || fd == -EADDRNOTAVAIL || (v6 && fd == -EAFNOSUPPORT);
  if (!fine) return fail(errno_status(-fd, "cannot reserve port " + name));
  return UniqueFd();
}

// Whether it still does what the key says: an interface may be another one of that name by now.
bool is_bound_as(int fd, const FrontendKey& key) {
  if (key.bind.empty() || Ip::parse(key.bind)) return true;
  std::array<char, IFNAMSIZ> name{};
  auto size = static_cast<socklen_t>(name.size());
  return getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name.data(), &size) == 0 &&
         key.bind == std::string_view(name.data(), strnlen(name.data(), name.size()));
}

}  // namespace

void HostPorts::adopt() {
  if (keeper_ == nullptr) return;
  for (auto& [name, socket] : keeper_->adopt()) {
    const auto port = parse_kept_name(name);
    if (!port || !is_bound_as(socket->get(), port->key)) {
      keeper_->drop(name);
      continue;
    }
    held_[port->key].sockets[port->v6] = std::move(socket);
  }
}

Status HostPorts::hold_in(Sockets::iterator held, bool v6) {
  const FrontendKey& key = held->first;
  PortKeeper::Socket& socket = held->second.sockets[v6];
  auto opened = open(key, v6);
  // It may be netd that has the port, for a former process: it did not answer, or was replaced by
  // an upgrade at that moment.
  if (!opened && keeper_ != nullptr && keeper_->reach(kReachMax)) {
    adopt();
    if (socket != nullptr) return ok_status();
    opened = open(key, v6);
  }
  if (!opened) return opened.error();
  if (*opened) socket = std::make_shared<const UniqueFd>(*std::move(opened));
  return ok_status();
}

Status HostPorts::hold(const FrontendKey& key, Families families) {
  // Picked for every address, and wanted at one.
  const auto picked = held_.find({key.protocol, key.port});
  if (picked != held_.end() && picked->second.picked != 0 && picked->first != key) drop(picked);
  if (const auto address = Ip::parse(key.bind)) families = {!address->v6, address->v6};
  const auto held = held_.try_emplace(key).first;
  const bool was_picked = std::exchange(held->second.picked, 0) != 0;
  for (const bool v6 : {false, true}) {
    const PortKeeper::Socket& socket = held->second.sockets[v6];
    const bool wanted = v6 ? families.v6 : families.v4;
    if (!wanted && socket != nullptr) close(held, v6);
    if (!wanted || (socket != nullptr && !was_picked)) continue;
    if (socket == nullptr) {
      if (const Status status = hold_in(held, v6); !status.ok()) {
        drop(held);
        return status;
      }
    }
    if (socket != nullptr && keeper_ != nullptr) keeper_->keep(kept_name(key, v6), socket);
  }
  return ok_status();
}

void HostPorts::release_all_but(const std::set<FrontendKey>& wanted) {
  for (auto it = held_.begin(); it != held_.end();) {
    if (it->second.picked != 0 || wanted.count(it->first) != 0) {
      ++it;
      continue;
    }
    it = drop(it);
  }
}

void HostPorts::release_moved(const std::set<FrontendKey>& wanted) {
  for (auto it = held_.begin(); it != held_.end();) {
    const auto first = wanted.lower_bound({it->first.protocol, it->first.port});
    const bool moved = it->second.picked == 0 && !wanted.contains(it->first) &&
                       first != wanted.end() && first->protocol == it->first.protocol &&
                       first->port == it->first.port;
    it = moved ? drop(it) : std::next(it);
  }
}

void HostPorts::close(Sockets::iterator held, bool v6) {
  PortKeeper::Socket& socket = held->second.sockets[v6];
  if (socket == nullptr) return;
  // Also where it was picked, and is not kept.
  if (keeper_ != nullptr) keeper_->drop(kept_name(held->first, v6));
  socket.reset();
}

HostPorts::Sockets::iterator HostPorts::drop(Sockets::iterator held) {
  for (const bool v6 : {false, true}) close(held, v6);
  return held_.erase(held);
}

Result<uint32_t> HostPorts::pick(v1::PortConfig::Protocol protocol) {
  std::vector<UniqueFd> passed_over;  // or the kernel would choose them again
  for (;;) {
    const int fd = bind_port({protocol, 0}, false);
    if (fd < 0) {
      return fail(errno_status(
          -fd, fmt::format("cannot reserve a {} port of this node", protocol_name(protocol))));
    }
    UniqueFd four(fd);
    sockaddr_storage address{};
    socklen_t length = sizeof(address);
    getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length);
    const uint32_t port = ntohs(reinterpret_cast<const sockaddr_in&>(address).sin_port);
    auto six = open({protocol, port}, true);
    if (!six && passed_over.size() < kPassedOverMax) {
      passed_over.push_back(std::move(four));
      continue;
    }
    Held& held = held_[{protocol, port}];
    held.picked = next_pick_++;
    held.sockets[0] = std::make_shared<const UniqueFd>(std::move(four));
    if (six && *six) held.sockets[1] = std::make_shared<const UniqueFd>(*std::move(six));
    forget_oldest_pick();
    return port;
  }
}

void HostPorts::forget_oldest_pick() {
  size_t picked = 0;
  auto oldest = held_.end();
  for (auto it = held_.begin(); it != held_.end(); ++it) {
    if (it->second.picked == 0) continue;
    ++picked;
    if (oldest == held_.end() || it->second.picked < oldest->second.picked) oldest = it;
  }
  if (picked > kPickedMax) drop(oldest);
}

}  // namespace muster::overlay
