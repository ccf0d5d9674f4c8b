#include "overlay/dns/netd/control.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>
#include <vector>

namespace muster::overlay::dns {

Control::Control(EventLoop& loop, v1::NetdHello hello, Handler handler, HandOver hand_over, Log log)
    : loop_(loop),
      hello_(std::move(hello)),
      handler_(std::move(handler)),
      hand_over_(std::move(hand_over)),
      log_(std::move(log)),
      listener_(loop, log_) {}

Control::~Control() {
  while (!connections_.empty()) close(connections_.begin()->first);
}

Status Control::listen(const std::string& path) {
  return listener_.listen(path, SOCK_STREAM);
}

Status Control::start() {
  return listener_.start([this](UniqueFd fd) { accepted(std::move(fd)); });
}

void Control::accepted(UniqueFd fd) {
  const int number = fd.get();
  const Status watched =
      loop_.watch(number, EPOLLIN, [this, number](uint32_t events) { ready(number, events); });
  if (!watched.ok()) return;
  auto connection = std::make_shared<Connection>();
  connection->fd = std::move(fd);
  v1::NetdReply hello;
  *hello.mutable_hello() = hello_;
  hello.mutable_hello()->set_pid(getpid());
  connection->out = encode_frame(hello);
  connections_[number] = connection;
  if (!flush(*connection)) close(number);
}

void Control::close(int fd) {
  if (connections_.count(fd) == 0) return;
  loop_.unwatch(fd);
  connections_.erase(fd);
}

void Control::ready(int fd, uint32_t events) {
  const auto found = connections_.find(fd);
  if (found == connections_.end()) return;
  const std::shared_ptr<Connection> connection = found->second;
  if ((events & EPOLLOUT) != 0 && !flush(*connection)) return close(fd);
  if ((events & ~static_cast<uint32_t>(EPOLLOUT)) != 0 && !read(*connection)) close(fd);
}

bool Control::read(Connection& connection) {
  std::array<char, 65536> buffer;
  while (true) {
    const ssize_t got = recv(connection.fd.get(), buffer.data(), buffer.size(), 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) break;
    if (got <= 0) return false;
    connection.in.add({buffer.data(), static_cast<size_t>(got)});
  }
  while (true) {
    auto frame = connection.in.next();
    if (!frame) return false;
    if (!*frame) return true;
    v1::NetdCommand command;
    if (!command.ParseFromString(**frame)) {
      log_->error("a command that cannot be read");
      return false;
    }
    if (command.has_handover()) {
      if (connection.out.empty()) hand_over_(connection.fd.get());
      return false;
    }
    connection.told = connection.told || command.has_update();
    connection.out += encode_frame(handler_(command));
    if (!flush(connection)) return false;
  }
}

bool Control::tell(const v1::NetdReply& news) {
  bool heard = false;
  std::vector<int> gone;
  for (const auto& [fd, connection] : connections_) {
    if (!connection->told || !connection->out.empty()) continue;
    connection->out = encode_frame(news);
    if (flush(*connection)) {
      heard = true;
    } else {
      gone.push_back(fd);
    }
  }
  for (const int fd : gone) close(fd);
  return heard;
}

bool Control::flush(Connection& connection) {
  return loop_.send_some(connection.fd.get(), connection.out);
}

}  // namespace muster::overlay::dns
