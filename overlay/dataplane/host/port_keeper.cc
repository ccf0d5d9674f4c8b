#include "overlay/dataplane/host/port_keeper.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace muster::overlay {
namespace {

constexpr Duration kImpatient = 10s;  // after a wait that was in vain

}  // namespace

PortKeeper::PortKeeper(std::string path, Log log) : path_(std::move(path)), log_(std::move(log)) {
  if (path_.empty()) return;
  wake_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  thread_ = std::thread([this] { run(); });
  pthread_setname_np(thread_.native_handle(), "port-keeper");
}

PortKeeper::~PortKeeper() {
  if (!thread_.joinable()) return;
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake();
  thread_.join();
}

void PortKeeper::wake() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(wake_.get(), &one, sizeof one);
}

std::map<std::string, PortKeeper::Socket> PortKeeper::adopt() {
  std::lock_guard lock(mutex_);
  if (!path_.empty() && !connection_) attempt();
  return std::exchange(found_, {});
}

bool PortKeeper::reach(Duration patience) {
  if (path_.empty()) return false;
  std::unique_lock lock(mutex_);
  if (is_broken()) disconnect();
  if (connection_) return false;
  retry_at_ = {};
  backoff_.reset();
  if (attempt()) return true;
  // Nobody is about to come where nobody has been.
  if (clock_.now() < impatient_until_ || ::access(path_.c_str(), F_OK) != 0) return false;
  const int before = reached_;
  // The thread goes on trying, though there may be nothing to give.
  impatient_until_ = clock_.now() + patience;
  wake();
  changed_.wait_for(lock, patience, [&] { return reached_ != before || stopping_; });
  if (reached_ != before) return true;
  impatient_until_ = clock_.now() + kImpatient;
  return false;
}

void PortKeeper::keep(const std::string& name, const Socket& socket) {
  if (path_.empty()) return;
  std::lock_guard lock(mutex_);
  kept_[name] = socket;
  if (!connection_) {
    attempt();  // which tells of all
  } else if (!ask(std::string(kPortKeep) + name, socket)) {
    disconnect();
  }
}

void PortKeeper::drop(const std::string& name) {
  if (path_.empty()) return;
  std::lock_guard lock(mutex_);
  found_.erase(name);
  if (kept_.erase(name) == 0) return;
  if (connection_ && ask(std::string(kPortDrop) + name, nullptr)) return;
  disconnect();
  attempt();  // after which netd has what is kept alone
}

// ---------------------------------------------------------------- with the mutex held

bool PortKeeper::is_broken() const {
  if (!connection_) return false;
  char byte = 0;
  const ssize_t got = recv(connection_.get(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  // Nothing comes unasked.
  return got >= 0 || (errno != EAGAIN && errno != EINTR);
}

void PortKeeper::disconnect() {
  connection_.reset();
  wake();
}

bool PortKeeper::connect() {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path_.size() >= sizeof address.sun_path) return false;
  std::memcpy(address.sun_path, path_.c_str(), path_.size() + 1);
  UniqueFd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!fd) return false;
  const timeval limit{kAnswerMax / 1s, 0};  // which holds for connecting, too
  setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return false;
  }
  connection_ = std::move(fd);
  return true;
}

// Connects, unless that failed a moment ago.
bool PortKeeper::attempt() {
  if (clock_.now() < retry_at_) return false;
  if (connect() && agree()) {
    backoff_.reset();
    met_ = true;
    ++reached_;
    changed_.notify_all();
    wake();
    return true;
  }
  disconnect();
  retry_at_ = clock_.now() + backoff_.next();
  return false;
}

bool PortKeeper::take_list(std::vector<std::string>& strange) {
  if (send_port_message(connection_.get(), kPortList, {}) != 0) return false;
  while (true) {
    PortMessage message;
    if (receive_port_message(connection_.get(), message) != 0) return false;
    if (message.text == kPortDone) return true;
    const auto names = names_in(message.text);
    if (!message.text.starts_with(kPortKept) || names.size() != message.sockets.size()) {
      return false;
    }
    for (size_t i = 0; i < names.size(); ++i) {
      if (kept_.contains(names[i])) continue;
      if (met_ || !parse_kept_name(names[i])) {
        strange.push_back(names[i]);
        continue;
      }
      auto socket = std::make_shared<const UniqueFd>(std::move(message.sockets[i]));
      kept_[names[i]] = socket;
      found_[names[i]] = std::move(socket);
    }
  }
}

// netd gets what it has not, and loses what this process let go of while it did not answer.
bool PortKeeper::agree() {
  std::vector<std::string> strange;
  if (!take_list(strange)) return false;
  for (const std::string& name : strange) {
    if (!ask(std::string(kPortDrop) + name, nullptr)) return false;
  }
  for (const auto& [name, socket] : kept_) {
    if (!found_.contains(name) && !ask(std::string(kPortKeep) + name, socket)) return false;
  }
  return true;
}

// False when there is no answer.
bool PortKeeper::ask(std::string_view text, const Socket& socket) {
  std::vector<int> sockets;
  if (socket != nullptr) sockets.push_back(socket->get());
  if (send_port_message(connection_.get(), text, sockets) != 0) return false;
  PortMessage answer;
  if (receive_port_message(connection_.get(), answer) != 0) return false;
  if (answer.text.starts_with(kPortRefused) && !std::exchange(refusal_said_, true)) {
    log_->warn("netd does not hold published ports: {}",
               std::string_view(answer.text).substr(kPortRefused.size()));
  }
  return true;
}

// ---------------------------------------------------------------- the thread

void PortKeeper::run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    if (is_broken()) disconnect();
    const bool awaited = !kept_.empty() || clock_.now() < impatient_until_;
    if (!connection_ && awaited) attempt();
    int wait_ms = -1;
    if (!connection_ && awaited) {
      wait_ms = static_cast<int>(std::max<int64_t>((retry_at_ - clock_.now()) / 1ms + 1, 0));
    }
    // Another thread may close the descriptor meanwhile; then it wakes this one.
    struct pollfd fds[2] = {{wake_.get(), POLLIN, 0}, {connection_.get(), POLLRDHUP, 0}};
    lock.unlock();
    ::poll(fds, 2, wait_ms);
    uint64_t count = 0;
    [[maybe_unused]] const ssize_t got = ::read(wake_.get(), &count, sizeof count);
    lock.lock();
  }
}

}  // namespace muster::overlay
