#include "overlay/dns/netd/upstream_sockets.h"

#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <utility>

namespace muster::overlay::dns {
namespace {

constexpr uint16_t kDnsPort = 53;

socklen_t fill_address(const Ip& ip, sockaddr_storage& out) {
  const auto byte = [&](int index, int size) {
    return static_cast<uint8_t>(ip.value >> (8 * (size - 1 - index)));
  };
  if (ip.v6) {
    auto& address = reinterpret_cast<sockaddr_in6&>(out);
    address.sin6_family = AF_INET6;
    address.sin6_port = htons(kDnsPort);
    for (int i = 0; i < 16; ++i) address.sin6_addr.s6_addr[i] = byte(i, 16);
    return sizeof address;
  }
  auto& address = reinterpret_cast<sockaddr_in&>(out);
  address.sin_family = AF_INET;
  address.sin_port = htons(kDnsPort);
  address.sin_addr.s_addr = htonl(static_cast<uint32_t>(ip.value));
  return sizeof address;
}

}  // namespace

UpstreamSockets::~UpstreamSockets() {
  for (const auto& [id, exchange] : exchanges_) loop_.unwatch(exchange->fd.get());
}

Status UpstreamSockets::start(uint64_t id, const std::string& container, const Upstream& server,
                              bool tcp, const std::string& packet) {
  const int ns = server.from_node ? -1 : namespace_of_(container);
  if (!server.from_node && ns < 0) return not_found("container {} is gone", container);
  const auto exchange = std::make_shared<Exchange>();
  MUSTER_ASSIGN(exchange->fd, hopper_.open_socket(ns, server.address.v6, tcp));
  exchange->tcp = tcp;
  sockaddr_storage address{};
  const socklen_t size = fill_address(server.address, address);
  // A connected datagram socket hears of nobody else, and of a port that nobody listens on.
  if (connect(exchange->fd.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0 &&
      errno != EINPROGRESS) {
    return errno_status(errno, "connect");
  }
  exchange->out = packet;
  if (tcp) {
    exchange->out.insert(exchange->out.begin(), {static_cast<char>(packet.size() >> 8),
                                                 static_cast<char>(packet.size() & 0xff)});
  } else if (!flush(*exchange)) {
    return errno_status(errno, "send");
  }
  MUSTER_TRY(loop_.watch(exchange->fd.get(), tcp ? EPOLLOUT : EPOLLIN,
                         [this, id](uint32_t events) { ready(id, events); }));
  exchanges_[id] = exchange;
  return ok_status();
}

void UpstreamSockets::send(uint64_t id, const std::string& container, const Upstream& server,
                           bool tcp, const std::string& packet) {
  if (!start(id, container, server, tcp, packet).ok()) events_.failed(id);
}

void UpstreamSockets::close(uint64_t id) {
  const auto node = exchanges_.extract(id);
  if (!node.empty()) loop_.unwatch(node.mapped()->fd.get());
}

bool UpstreamSockets::flush(Exchange& exchange) {
  while (!exchange.out.empty()) {
    const ssize_t sent =
        ::send(exchange.fd.get(), exchange.out.data(), exchange.out.size(), MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN || errno == EINTR;
    exchange.out.erase(0, static_cast<size_t>(sent));
  }
  return true;
}

void UpstreamSockets::ready(uint64_t id, uint32_t events) {
  const auto found = exchanges_.find(id);
  if (found == exchanges_.end()) return;
  const std::shared_ptr<Exchange> exchange = found->second;
  if (exchange->tcp && (events & EPOLLOUT) != 0) {
    if (!flush(*exchange)) return events_.failed(id);
    if (exchange->out.empty()) loop_.change(exchange->fd.get(), EPOLLIN);
  }
  if ((events & (EPOLLIN | EPOLLERR | EPOLLHUP)) == 0) return;
  if (exchange->tcp) {
    read_stream(id, *exchange);
  } else {
    read_datagrams(id, *exchange);
  }
}

void UpstreamSockets::read_datagrams(uint64_t id, Exchange& exchange) {
  std::array<char, kTcpAnswerMax> buffer;
  // As long as what comes is not the answer (then the exchange is closed).
  while (exchanges_.count(id) != 0) {
    const ssize_t got = recv(exchange.fd.get(), buffer.data(), buffer.size(), 0);
    if (got < 0) {
      if (errno != EAGAIN && errno != EINTR) events_.failed(id);
      return;
    }
    events_.received(id, {buffer.data(), static_cast<size_t>(got)});
  }
}

void UpstreamSockets::read_stream(uint64_t id, Exchange& exchange) {
  std::array<char, 16384> buffer;
  while (true) {
    const ssize_t got = recv(exchange.fd.get(), buffer.data(), buffer.size(), 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) return events_.failed(id);
    exchange.in.append(buffer.data(), static_cast<size_t>(got));
    if (exchange.in.size() < 2) continue;
    const size_t size =
        static_cast<uint8_t>(exchange.in[0]) * 256u + static_cast<uint8_t>(exchange.in[1]);
    if (exchange.in.size() < size + 2) continue;
    return events_.received(id, std::string_view(exchange.in).substr(2, size));
  }
}

}  // namespace muster::overlay::dns
