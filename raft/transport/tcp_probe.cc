#include "raft/transport/tcp_probe.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace muster::raft {
namespace {

// A connection that was accepted and ended at once says nothing yet: its listener may have died, or
// something between may have cut it. It is asked again, up to so many times.
constexpr int kTriesMax = 3;

// False when `address` is no literal address with a port.
bool parse(const std::string& address, sockaddr_storage& out, socklen_t& size) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos) return false;
  std::string host = address.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (getaddrinfo(host.c_str(), address.c_str() + colon + 1, &hints, &found) != 0) return false;
  std::memcpy(&out, found->ai_addr, found->ai_addrlen);
  size = found->ai_addrlen;
  freeaddrinfo(found);
  return true;
}

// A connection to a port of this host that nobody listens on can meet itself, when the kernel
// happens to choose that very port for its other end.
bool met_itself(int fd) {
  sockaddr_storage here{};
  sockaddr_storage there{};
  socklen_t here_size = sizeof here;
  socklen_t there_size = sizeof there;
  return getsockname(fd, reinterpret_cast<sockaddr*>(&here), &here_size) == 0 &&
         getpeername(fd, reinterpret_cast<sockaddr*>(&there), &there_size) == 0 &&
         here_size == there_size && std::memcmp(&here, &there, here_size) == 0;
}

}  // namespace

TcpProbe::TcpProbe(Limits limits)
    : limits_(limits), wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)), thread_([this] { run(); }) {
  pthread_setname_np(thread_.native_handle(), "raft-probe");
}

TcpProbe::~TcpProbe() {
  stop();
}

void TcpProbe::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  eventfd_write(wake_.get(), 1);
  if (thread_.joinable()) thread_.join();
}

void TcpProbe::start(std::string address, Done done) {
  Attempt attempt;
  attempt.done = std::move(done);
  attempt.until = attempt.last_until = clock_.now() + limits_.connect_max;
  if (!parse(address, attempt.to, attempt.to_size)) attempt.to_size = 0;
  {
    std::lock_guard lock(mutex_);
    if (stopping_) return;
    arriving_.push_back(std::move(attempt));
  }
  eventfd_write(wake_.get(), 1);
}

bool TcpProbe::finish(Attempt& attempt, ProbeResult result) {
  attempt.done(result);
  return true;
}

bool TcpProbe::begin(Attempt& attempt) {
  if (attempt.to_size == 0) return finish(attempt, ProbeResult::kUnknown);
  ++attempt.tries;
  attempt.connected = false;
  attempt.until = attempt.last_until;
  attempt.fd.reset(
      socket(attempt.to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP));
  if (!attempt.fd) return finish(attempt, ProbeResult::kUnknown);
  if (connect(attempt.fd.get(), reinterpret_cast<const sockaddr*>(&attempt.to), attempt.to_size) ==
      0) {
    return proceed(attempt, POLLOUT);
  }
  return errno != EINPROGRESS && failed(attempt, errno);
}

bool TcpProbe::proceed(Attempt& attempt, short events) {
  if (events == 0) return false;
  int error = 0;
  socklen_t size = sizeof error;
  if (getsockopt(attempt.fd.get(), SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
  if (error != 0) return failed(attempt, error);
  if (!attempt.connected) {
    if (met_itself(attempt.fd.get())) return finish(attempt, ProbeResult::kRefused);
    attempt.connected = true;
    attempt.until = std::min(attempt.last_until, clock_.now() + limits_.watched);
    return false;
  }
  char byte = 0;
  const ssize_t got = recv(attempt.fd.get(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  if (got > 0) return finish(attempt, ProbeResult::kAccepted);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  return failed(attempt, got < 0 ? errno : 0);
}

// `error` 0: the other side ended the connection.
bool TcpProbe::failed(Attempt& attempt, int error) {
  if (error == ECONNREFUSED) return finish(attempt, ProbeResult::kRefused);
  // A reset that is no refusal is of a connection that was there, whether it was seen or not.
  const bool reset = error == ECONNRESET || error == EPIPE;
  if ((reset || error == 0) && attempt.tries < kTriesMax) return begin(attempt);
  return finish(attempt, reset ? ProbeResult::kRefused : ProbeResult::kUnknown);
}

void TcpProbe::run() {
  serve();
  attempts_.clear();
  // What waited is dropped as what was under way: whoever asked may be kept by his question.
  std::vector<Attempt> unheard;
  std::lock_guard lock(mutex_);
  unheard.swap(arriving_);
}

void TcpProbe::serve() {
  std::vector<pollfd> fds;
  while (true) {
    std::vector<Attempt> arrived;
    {
      std::lock_guard lock(mutex_);
      if (stopping_) return;
      arrived.swap(arriving_);
    }
    for (Attempt& attempt : arrived) {
      if (!begin(attempt)) attempts_.push_back(std::move(attempt));
    }
    const TimePoint now = clock_.now();
    attempts_.remove_if([&](Attempt& attempt) {
      if (now < attempt.until) return false;
      return finish(attempt, attempt.connected ? ProbeResult::kAccepted : ProbeResult::kUnknown);
    });
    fds.assign(1, {wake_.get(), POLLIN, 0});
    Duration wait = 1h;
    for (const Attempt& attempt : attempts_) {
      const short events = attempt.connected ? POLLIN : POLLOUT;
      fds.push_back({attempt.fd.get(), events, 0});
      wait = std::min(wait, attempt.until - now);
    }
    const auto ms = std::chrono::ceil<std::chrono::milliseconds>(wait).count();
    if (poll(fds.data(), fds.size(), static_cast<int>(ms)) < 0) {
      if (errno == EINTR) continue;
      // No memory, or more descriptors than may be looked at: nobody must wait for an answer
      // because of that. The one that is left needs neither.
      attempts_.remove_if([&](Attempt& attempt) { return finish(attempt, ProbeResult::kUnknown); });
      continue;
    }
    eventfd_t ignored = 0;
    eventfd_read(wake_.get(), &ignored);
    size_t i = 1;
    attempts_.remove_if([&](Attempt& attempt) { return proceed(attempt, fds[i++].revents); });
  }
}

}  // namespace muster::raft
