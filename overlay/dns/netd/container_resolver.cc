#include "overlay/dns/netd/container_resolver.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <utility>

namespace muster::overlay::dns {
namespace {

// Questions taken off a socket before others have their turn.
constexpr int kDatagramsAtOnce = 64;
constexpr size_t kQuestionMax = 4096;
constexpr size_t kUnsentMax = 1 << 20;

}  // namespace

struct ContainerResolver::Connection {
  UniqueFd fd;
  std::string in;
  std::string out;
  EventLoop::TimerId idle = 0;
};

ContainerResolver::ContainerResolver(EventLoop& loop, NamespaceHopper::ResolverSockets sockets,
                                     Handler handler)
    : loop_(loop),
      sockets_(std::move(sockets)),
      handler_(std::move(handler)),
      self_(std::make_shared<ContainerResolver*>(this)) {}

ContainerResolver::~ContainerResolver() {
  *self_ = nullptr;
  while (!connections_.empty()) close(connections_.begin()->first);
  loop_.unwatch(sockets_.udp.get());
  loop_.unwatch(sockets_.tcp.get());
}

Status ContainerResolver::start() {
  MUSTER_TRY(loop_.watch(sockets_.udp.get(), EPOLLIN, [this](uint32_t) { read_datagrams(); }));
  return loop_.watch(sockets_.tcp.get(), EPOLLIN, [this](uint32_t) { accept_connections(); });
}

void ContainerResolver::read_datagrams() {
  std::array<char, kQuestionMax> buffer;
  for (int i = 0; i < kDatagramsAtOnce; ++i) {
    sockaddr_storage from{};
    socklen_t size = sizeof from;
    const ssize_t got = recvfrom(sockets_.udp.get(), buffer.data(), buffer.size(), 0,
                                 reinterpret_cast<sockaddr*>(&from), &size);
    if (got < 0) return;
    handler_({buffer.data(), static_cast<size_t>(got)}, false,
             [self = self_, from, size](const std::string& answer) {
               if (*self == nullptr) return;
               (void)sendto((*self)->sockets_.udp.get(), answer.data(), answer.size(), 0,
                            reinterpret_cast<const sockaddr*>(&from), size);
             });
  }
}

void ContainerResolver::accept_connections() {
  while (true) {
    UniqueFd fd(accept4(sockets_.tcp.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!fd) return;
    if (connections_.size() >= kConnectionsMax) continue;  // closes it
    const int number = fd.get();
    auto connection = std::make_shared<Connection>();
    connection->fd = std::move(fd);
    const Status watched = loop_.watch(
        number, EPOLLIN, [this, number](uint32_t events) { connection_ready(number, events); });
    if (!watched.ok()) continue;
    rest(*connection);
    connections_[number] = std::move(connection);
  }
}

void ContainerResolver::rest(Connection& connection) {
  loop_.cancel(connection.idle);
  connection.idle = loop_.after(kIdleMax, [this, fd = connection.fd.get()] { close(fd); });
}

void ContainerResolver::close(int fd) {
  const auto node = connections_.extract(fd);
  if (node.empty()) return;
  loop_.cancel(node.mapped()->idle);
  loop_.unwatch(fd);
}

void ContainerResolver::connection_ready(int fd, uint32_t events) {
  const auto found = connections_.find(fd);
  if (found == connections_.end()) return;
  const std::shared_ptr<Connection> connection = found->second;
  if ((events & EPOLLOUT) != 0 && !flush(*connection)) return close(fd);
  if ((events & ~static_cast<uint32_t>(EPOLLOUT)) != 0 && !read(*connection)) close(fd);
}

bool ContainerResolver::read(Connection& connection) {
  std::array<char, kQuestionMax> buffer;
  const ssize_t got = recv(connection.fd.get(), buffer.data(), buffer.size(), 0);
  if (got < 0) return errno == EAGAIN || errno == EINTR;
  if (got == 0) return false;
  rest(connection);
  connection.in.append(buffer.data(), static_cast<size_t>(got));
  const int fd = connection.fd.get();
  while (connection.in.size() >= 2) {
    const size_t size =
        static_cast<uint8_t>(connection.in[0]) * 256u + static_cast<uint8_t>(connection.in[1]);
    if (size > kQuestionMax) return false;
    if (connection.in.size() < size + 2) break;
    const std::string question = connection.in.substr(2, size);
    connection.in.erase(0, size + 2);
    // By the connection itself: its number may be another's when the answer comes.
    handler_(question, true,
             [self = self_, fd,
              weak = std::weak_ptr<Connection>(connections_.at(fd))](const std::string& answer) {
               if (*self != nullptr && !weak.expired()) (*self)->reply(fd, answer);
             });
    if (connections_.count(fd) == 0) return true;  // a reply found it broken
  }
  return true;
}

void ContainerResolver::reply(int fd, const std::string& answer) {
  const auto found = connections_.find(fd);
  if (found == connections_.end() || answer.size() > 65535) return;
  const std::shared_ptr<Connection> connection = found->second;
  connection->out.push_back(static_cast<char>(answer.size() >> 8));
  connection->out.push_back(static_cast<char>(answer.size() & 0xff));
  connection->out += answer;
  if (connection->out.size() > kUnsentMax || !flush(*connection)) close(fd);
}

bool ContainerResolver::flush(Connection& connection) {
  return loop_.send_some(connection.fd.get(), connection.out);
}

}  // namespace muster::overlay::dns
