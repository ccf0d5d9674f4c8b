#include "overlay/dns/netd/port_control.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

namespace muster::overlay::dns {

PortControl::PortControl(EventLoop& loop, KeptPorts& kept, Log log)
    : loop_(loop), kept_(kept), log_(std::move(log)), listener_(loop, log_) {}

PortControl::~PortControl() {
  while (!connections_.empty()) close(connections_.begin()->first);
}

Status PortControl::listen(const std::string& path) {
  return listener_.listen(path, SOCK_SEQPACKET);
}

Status PortControl::start() {
  return listener_.start([this](UniqueFd fd) { accepted(std::move(fd)); });
}

void PortControl::accepted(UniqueFd fd) {
  const int number = fd.get();
  if (!loop_.watch(number, EPOLLIN, [this, number](uint32_t) { ready(number); }).ok()) return;
  auto connection = std::make_shared<Connection>();
  connection->fd = std::move(fd);
  connections_[number] = std::move(connection);
}

void PortControl::close(int fd) {
  if (!connections_.contains(fd)) return;
  loop_.unwatch(fd);
  connections_.erase(fd);
}

void PortControl::ready(int fd) {
  const auto found = connections_.find(fd);
  if (found == connections_.end()) return;
  const std::shared_ptr<Connection> connection = found->second;
  if (!flush(*connection) || !read(*connection)) close(fd);
}

bool PortControl::read(Connection& connection) {
  while (connection.out.empty()) {
    PortMessage message;
    const int error = receive_port_message(connection.fd.get(), message);
    if (error == EAGAIN) return true;
    if (error == EMSGSIZE) {
      // A descriptor more than this process may have, most likely. The peer comes again.
      log_->error("a socket that holds a port did not arrive");
    }
    if (error != 0) return false;
    for (auto& answer : kept_.command(std::move(message))) {
      connection.out.push_back(std::move(answer));
    }
    if (!flush(connection)) return false;
  }
  return true;
}

bool PortControl::flush(Connection& connection) {
  while (!connection.out.empty()) {
    const KeptPorts::Answer& next = connection.out.front();
    std::vector<int> sockets;
    for (const auto& socket : next.sockets) sockets.push_back(socket->get());
    const int error = send_port_message(connection.fd.get(), next.text, sockets);
    if (error == EAGAIN) {
      loop_.change(connection.fd.get(), EPOLLOUT);
      return true;
    }
    if (error != 0) return false;
    connection.out.pop_front();
  }
  loop_.change(connection.fd.get(), EPOLLIN);
  return true;
}

}  // namespace muster::overlay::dns
