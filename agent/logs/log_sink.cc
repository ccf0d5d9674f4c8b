#include "agent/logs/log_sink.h"

#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/descriptor_messages.h"
#include "base/unique_fd.h"

namespace muster::agent {
namespace {

// Over UDP more is not delivered everywhere (RFC 5426 section 3.2 asks for 2048 at least).
constexpr size_t kDatagramBytesMax = 32 << 10;

Status cannot_send(const std::string& where, int error) {
  return unavailable("sending to {}: {}", where, std::strerror(error));
}

bool wait_for(int fd, short events) {
  struct pollfd ready {
    fd, events, 0
  };
  return ::poll(&ready, 1, LogSink::kSendLimitMs) == 1;
}

Result<UniqueFd> connect_unix(const std::string& path, int type) {
  struct sockaddr_un address {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return fail(invalid_argument("{}: too long", path));
  std::memcpy(address.sun_path, path.data(), path.size());
  UniqueFd fd(::socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd ||
      ::connect(fd.get(), reinterpret_cast<struct sockaddr*>(&address), sizeof address) != 0) {
    return fail(cannot_send(path, errno));
  }
  return fd;
}

Result<UniqueFd> connect_inet(const SyslogAddress& to, int type) {
  const std::string where = to.host + ":" + to.port;
  struct addrinfo hints {};
  hints.ai_socktype = type;
  struct addrinfo* found = nullptr;
  const int error = ::getaddrinfo(to.host.c_str(), to.port.c_str(), &hints, &found);
  if (error != 0) return fail(unavailable("{}: {}", where, ::gai_strerror(error)));
  const std::unique_ptr<struct addrinfo, void (*)(struct addrinfo*)> keep(found, ::freeaddrinfo);
  UniqueFd fd(::socket(found->ai_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return fail(cannot_send(where, errno));
  if (::connect(fd.get(), found->ai_addr, found->ai_addrlen) == 0) return fd;
  if (errno != EINPROGRESS) return fail(cannot_send(where, errno));
  int outcome = ETIMEDOUT;
  socklen_t size = sizeof outcome;
  if (wait_for(fd.get(), POLLOUT)) {
    ::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &outcome, &size);
  }
  if (outcome != 0) return fail(cannot_send(where, outcome));
  return fd;
}

class JournalSink final : public LogSink {
 public:
  explicit JournalSink(std::string path) : path_(std::move(path)) {}

  Status send(std::string_view message) override {
    if (!fd_) {
      MUSTER_ASSIGN(fd_, connect_unix(path_, SOCK_DGRAM));
    }
    while (true) {
      if (::send(fd_.get(), message.data(), message.size(), MSG_NOSIGNAL) >= 0) return {};
      if (errno == EINTR) continue;
      if (errno == EMSGSIZE || errno == ENOBUFS) return send_as_file(message);
      if (errno == EAGAIN && wait_for(fd_.get(), POLLOUT)) continue;
      const Status status = cannot_send(path_, errno);
      fd_.reset();
      return status;
    }
  }

 private:
  Status send_as_file(std::string_view message) {
    const UniqueFd file(::memfd_create("journal", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (!file || ::write(file.get(), message.data(), message.size()) !=
                     static_cast<ssize_t>(message.size())) {
      return cannot_send(path_, errno);
    }
    ::fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
    const int error = send_descriptors(fd_.get(), {}, {file.get()});
    if (error == 0) return {};
    fd_.reset();
    return cannot_send(path_, error);
  }

  std::string path_;
  UniqueFd fd_;
};

class SyslogSink final : public LogSink {
 public:
  explicit SyslogSink(SyslogAddress address) : address_(std::move(address)) {}

  Status send(std::string_view message) override {
    if (!fd_) MUSTER_TRY(open());
    std::string text(message);
    if (stream()) {
      text.push_back('\n');
    } else if (text.size() > kDatagramBytesMax) {
      text.resize(kDatagramBytesMax);
    }
    const Status status = send_all(text);
    if (!status.ok()) fd_.reset();
    return status;
  }

 private:
  using Transport = SyslogAddress::Transport;

  bool stream() const {
    return address_.transport == Transport::kTcp || address_.transport == Transport::kUnix;
  }
  std::string where() const {
    return address_.port.empty() ? address_.host : address_.host + ":" + address_.port;
  }
  Status open() {
    const int type = stream() ? SOCK_STREAM : SOCK_DGRAM;
    const bool local =
        address_.transport == Transport::kUnix || address_.transport == Transport::kUnixgram;
    auto opened = local ? connect_unix(address_.host, type) : connect_inet(address_, type);
    if (!opened) return opened.error();
    fd_ = *std::move(opened);
    return {};
  }
  // A connection that the other side has closed takes one write in silence: asked for first.
  bool closed_by_peer() const {
    char byte;
    const ssize_t got = ::recv(fd_.get(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR);
  }
  Status send_all(std::string_view text) {
    if (stream() && closed_by_peer()) MUSTER_TRY(open());
    while (!text.empty()) {
      const ssize_t sent = ::send(fd_.get(), text.data(), text.size(), MSG_NOSIGNAL);
      if (sent >= 0) {
        if (!stream()) return {};
        text.remove_prefix(static_cast<size_t>(sent));
      } else if (errno == EMSGSIZE && text.size() > 1024) {
        text = text.substr(0, text.size() / 2);
      } else if (errno == EAGAIN) {
        if (!wait_for(fd_.get(), POLLOUT)) return cannot_send(where(), ETIMEDOUT);
      } else if (errno != EINTR) {
        return cannot_send(where(), errno);
      }
    }
    return {};
  }

  SyslogAddress address_;
  UniqueFd fd_;
};

}  // namespace

std::unique_ptr<LogSink> make_journal_sink(std::string socket_path) {
  return std::make_unique<JournalSink>(std::move(socket_path));
}

std::unique_ptr<LogSink> make_syslog_sink(SyslogAddress address) {
  return std::make_unique<SyslogSink>(std::move(address));
}

}  // namespace muster::agent
