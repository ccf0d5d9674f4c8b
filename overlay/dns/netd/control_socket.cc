#include "overlay/dns/netd/control_socket.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace muster::overlay::dns {

namespace {

constexpr Duration kPause = 100ms;

}  // namespace

RootListener::~RootListener() {
  loop_.cancel(pause_);
  if (accepted_) loop_.unwatch(socket_.get());
}

Status RootListener::listen(const std::string& path, int type) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return invalid_argument("{} is too long", path);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  UniqueFd fd(socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return errno_status(errno, "socket");
  ::unlink(path.c_str());
  const mode_t mask = ::umask(0177);
  const int bound = bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  const int error = errno;
  ::umask(mask);
  if (bound != 0) return errno_status(error, path);
  if (::listen(fd.get(), 8) != 0) return errno_status(errno, path);
  socket_ = std::move(fd);
  return ok_status();
}

Status RootListener::start(std::function<void(UniqueFd)> accepted) {
  MUSTER_TRY(loop_.watch(socket_.get(), EPOLLIN, [this](uint32_t) { accept_all(); }));
  accepted_ = std::move(accepted);
  return ok_status();
}

void RootListener::accept_all() {
  while (true) {
    UniqueFd fd(accept4(socket_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!fd && errno == EAGAIN) return;
    // One that has gone meanwhile is no reason to stop.
    if (!fd && (errno == ECONNABORTED || errno == EINTR)) continue;
    if (!fd) return pause(errno);
    pause_said_ = false;
    ucred peer{};
    socklen_t size = sizeof peer;
    if (getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == 0) {
      accepted_(std::move(fd));
    } else {
      log_->warn("a process of user {} is turned away", peer.uid);
    }
  }
}

// Whoever waits in the queue would wake the loop all the time.
void RootListener::pause(int error) {
  if (!std::exchange(pause_said_, true)) {
    log_->warn("musterd has to wait: {}", errno_status(error, "accept").message());
  }
  loop_.change(socket_.get(), 0);
  pause_ = loop_.after(kPause, [this] {
    pause_ = 0;
    loop_.change(socket_.get(), EPOLLIN);
  });
}

}  // namespace muster::overlay::dns
