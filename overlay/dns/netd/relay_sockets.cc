#include "overlay/dns/netd/relay_sockets.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>

namespace muster::overlay::dns {
namespace {

constexpr int kBacklog = 4096;            // the kernel's own limit (somaxconn) is below it
constexpr int kOriginalDestination = 80;  // SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST
constexpr int kKeepAliveIdleS = 60;
constexpr int kKeepAliveIntervalS = 15;
constexpr int kKeepAliveProbes = 4;

socklen_t to_sockaddr(const SocketAddress& from, sockaddr_storage& out) {
  out = {};
  if (!from.ip.v6) {
    auto& v4 = reinterpret_cast<sockaddr_in&>(out);
    v4.sin_family = AF_INET;
    v4.sin_port = htons(from.port);
    v4.sin_addr.s_addr = htonl(static_cast<uint32_t>(from.ip.value));
    return sizeof v4;
  }
  auto& v6 = reinterpret_cast<sockaddr_in6&>(out);
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(from.port);
  for (size_t i = 0; i < 16; ++i) {
    v6.sin6_addr.s6_addr[i] = static_cast<uint8_t>(from.ip.value >> (8 * (15 - i)));
  }
  return sizeof v6;
}

SocketAddress from_sockaddr(const sockaddr_storage& from) {
  if (from.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(from);
    return {Ip::v4(ntohl(v4.sin_addr.s_addr)), ntohs(v4.sin_port)};
  }
  const auto& v6 = reinterpret_cast<const sockaddr_in6&>(from);
  SocketAddress out{{true, 0}, ntohs(v6.sin6_port)};
  for (const uint8_t byte : v6.sin6_addr.s6_addr) out.ip.value = out.ip.value << 8 | byte;
  return out;
}

}  // namespace

Result<ListenAddress> parse_listen_address(std::string_view text) {
  const Status wrong = invalid_argument("\"{}\" is not ADDRESS:PORT", text);
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return fail(wrong);
  const std::string_view digits = text.substr(colon + 1);
  std::string_view host = text.substr(0, colon);
  ListenAddress out;
  const auto number = std::from_chars(digits.data(), digits.data() + digits.size(), out.at.port);
  if (number.ec != std::errc() || number.ptr != digits.data() + digits.size()) return fail(wrong);
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  if (const size_t percent = host.find('%'); percent != std::string_view::npos) {
    out.interface = host.substr(percent + 1);
    host = host.substr(0, percent);
  }
  const auto ip = Ip::parse(host);
  if (!ip || ip->v6 != bracketed) return fail(wrong);
  out.at.ip = *ip;
  return out;
}

std::string text_of(const SocketAddress& address) {
  return fmt::format(fmt::runtime(address.ip.v6 ? "[{}]:{}" : "{}:{}"), address.ip.str(),
                     address.port);
}

Result<UniqueFd> open_listener(const ListenAddress& address, Transport transport) {
  const bool tcp = transport == Transport::kTcp;
  const int type = (tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC | SOCK_NONBLOCK;
  const bool v6 = address.at.ip.v6;
  const int on = 1;
  UniqueFd fd(socket(v6 ? AF_INET6 : AF_INET, type, 0));
  if (!fd) {
    const Status status = errno_status(errno, "socket");
    return errno == EAFNOSUPPORT ? fail(not_found("{}", status.message())) : fail(status);
  }
  // Of datagrams it would let others have the same port.
  if (tcp) setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  setsockopt(fd.get(), IPPROTO_IP, IP_FREEBIND, &on, sizeof on);  // of IPv6, too
  if (v6) setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  // Beside the socket by which musterd holds the port in IPv6.
  if (v6 && address.at.ip.value == 1) {
    setsockopt(fd.get(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
  }
  if (!address.interface.empty() &&
      setsockopt(fd.get(), SOL_SOCKET, SO_BINDTODEVICE, address.interface.c_str(),
                 static_cast<socklen_t>(address.interface.size())) != 0) {
    return fail(errno == ENODEV ? not_found("no interface {}", address.interface)
                                : errno_status(errno, address.interface));
  }
  sockaddr_storage storage;
  const socklen_t length = to_sockaddr(address.at, storage);
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&storage), length) != 0 ||
      (tcp && listen(fd.get(), kBacklog) != 0)) {
    const int error = errno;
    const std::string port = fmt::format("port {}/{}", address.at.port, tcp ? "tcp" : "udp");
    if (error == EADDRINUSE) {
      return fail(already_exists("{} is in use on this node", port));
    }
    if (error == EADDRNOTAVAIL) return fail(not_found("no address {}", address.at.ip.str()));
    return fail(errno_status(error, port));
  }
  return fd;
}

Result<UniqueFd> start_connecting(const SocketAddress& to) {
  UniqueFd fd(socket(to.ip.v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return fail(errno_status(errno, "socket"));
  tune_stream(fd.get());
  sockaddr_storage storage;
  const socklen_t length = to_sockaddr(to, storage);
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&storage), length) != 0 &&
      errno != EINPROGRESS) {
    return fail(errno_status(errno, to.ip.str()));
  }
  return fd;
}

Result<UniqueFd> connect_datagrams(const SocketAddress& to) {
  UniqueFd fd(socket(to.ip.v6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_storage storage;
  const socklen_t length = to_sockaddr(to, storage);
  if (!fd || connect(fd.get(), reinterpret_cast<const sockaddr*>(&storage), length) != 0) {
    return fail(errno_status(errno, to.ip.str()));
  }
  return fd;
}

ssize_t receive_from(int fd, char* to, size_t size, SocketAddress& sender) {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  const ssize_t got = recvfrom(fd, to, size, 0, reinterpret_cast<sockaddr*>(&storage), &length);
  if (got >= 0) sender = from_sockaddr(storage);
  return got;
}

ssize_t send_to(int fd, const char* from, size_t size, const SocketAddress& receiver) {
  sockaddr_storage storage;
  const socklen_t length = to_sockaddr(receiver, storage);
  return sendto(fd, from, size, MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&storage), length);
}

SocketAddress original_destination(int fd) {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &length);
  const bool v6 = storage.ss_family == AF_INET6;
  sockaddr_storage original{};
  length = v6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
  const int level = v6 ? IPPROTO_IPV6 : IPPROTO_IP;
  const bool known = getsockopt(fd, level, kOriginalDestination, &original, &length) == 0 &&
                     original.ss_family == storage.ss_family;
  return from_sockaddr(known ? original : storage);
}

SocketAddress remote_end(int fd) {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  getpeername(fd, reinterpret_cast<sockaddr*>(&storage), &length);
  return from_sockaddr(storage);
}

void tune_stream(int fd) {
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &kKeepAliveIdleS, sizeof kKeepAliveIdleS);
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &kKeepAliveIntervalS, sizeof kKeepAliveIntervalS);
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &kKeepAliveProbes, sizeof kKeepAliveProbes);
}

void close_hard(UniqueFd fd) {
  if (!fd) return;
  const linger hard{1, 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
}

}  // namespace muster::overlay::dns
