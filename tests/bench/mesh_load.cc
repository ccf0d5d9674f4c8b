#include "tests/bench/mesh_load.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>

#include "base/unique_fd.h"
#include "tests/bench/sockets.h"

namespace muster::bench {
namespace {

using Steady = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

constexpr size_t kChunk = 256 * 1024;
constexpr int kPatienceMs = 3'000;

// A socket of a namespace: it stays there, so the calling thread only visits.
Result<UniqueFd> socket_in(int ns) {
  UniqueFd out;
  int error = 0;
  std::thread([&] {
    if (setns(ns, CLONE_NEWNET) != 0) {
      error = errno;
      return;
    }
    out = UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (out.get() < 0) error = errno;
  }).join();
  if (error != 0) return fail(errno_status(error, "socket"));
  const timeval patience{kPatienceMs / 1000, 0};
  setsockopt(out.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  setsockopt(out.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
  return out;
}

Status connect_to(int fd, const LoadPath& path) {
  const sockaddr_in to = address_of(path.address, path.port);
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof(to)) == 0) return ok_status();
  return errno_status(errno, fmt::format("connect to {}:{}", path.address, path.port));
}

Result<UniqueFd> listener(const LoadPath& path) {
  MUSTER_ASSIGN(UniqueFd out, socket_in(path.server_ns));
  const int on = 1;
  setsockopt(out.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  const sockaddr_in at = address_of("0.0.0.0", path.listen);
  if (::bind(out.get(), reinterpret_cast<const sockaddr*>(&at), sizeof(at)) != 0 ||
      ::listen(out.get(), 1024) != 0) {
    return fail(errno_status(errno, "listen"));
  }
  return out;
}

// Sockets that the other side makes inside a namespace need a thread there for every connection:
// the client's thread lives in its namespace.
template <class F>
Status in_namespace(int ns, F&& work) {
  Status status;
  std::thread([&] {
    status = setns(ns, CLONE_NEWNET) == 0 ? work() : errno_status(errno, "setns");
  }).join();
  return status;
}

}  // namespace

Result<double> throughput(const LoadPath& path, double seconds) {
  MUSTER_ASSIGN(const UniqueFd server, listener(path));
  MUSTER_ASSIGN(const UniqueFd client, socket_in(path.client_ns));
  MUSTER_TRY(connect_to(client.get(), path));
  const UniqueFd accepted(::accept4(server.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (accepted.get() < 0) return fail(errno_status(errno, "accept"));
  std::thread sender([&] {
    const std::string chunk(kChunk, 'm');
    while (::send(client.get(), chunk.data(), chunk.size(), MSG_NOSIGNAL) > 0) {
    }
  });
  std::string buffer(kChunk, '\0');
  // The first tenth opens the windows.
  uint64_t bytes = 0;
  const auto begin = Steady::now() + Seconds(seconds / 10);
  const auto end = begin + Seconds(seconds);
  auto now = Steady::now();
  ssize_t got = 0;
  while (now < end && (got = ::recv(accepted.get(), buffer.data(), buffer.size(), 0)) > 0) {
    now = Steady::now();
    if (now >= begin) bytes += static_cast<uint64_t>(got);
  }
  ::shutdown(accepted.get(), SHUT_RDWR);
  ::shutdown(client.get(), SHUT_RDWR);
  sender.join();
  if (got <= 0) return fail(internal_error("the connection to {} broke", path.address));
  return static_cast<double>(bytes) * 8 / 1e9 / Seconds(now - begin).count();
}

Result<Connections> connections(const LoadPath& path, double seconds) {
  MUSTER_ASSIGN(const UniqueFd server, listener(path));
  std::atomic<bool> over = false;
  std::thread answering([&] {
    while (!over) {
      const int fd = ::accept4(server.get(), nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) continue;
      (void)!::write(fd, "m", 1);
      char until_the_end = 0;
      (void)!::read(fd, &until_the_end, 1);
      ::close(fd);
    }
  });
  Connections out;
  const Status status = in_namespace(path.client_ns, [&]() -> Status {
    const auto begin = Steady::now();
    for (auto now = begin; Seconds(now - begin).count() < seconds;) {
      const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
      MUSTER_TRY(connect_to(fd.get(), path));
      char byte = 0;
      if (::read(fd.get(), &byte, 1) != 1) return errno_status(errno, "no answer");
      const linger reset{1, 0};
      setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
      const auto then = Steady::now();
      out.us.push_back(1e6 * Seconds(then - now).count());
      now = then;
    }
    out.per_s = static_cast<double>(out.us.size()) / Seconds(Steady::now() - begin).count();
    return ok_status();
  });
  over = true;
  ::shutdown(server.get(), SHUT_RDWR);  // wakes accept
  answering.join();
  if (!status.ok()) return fail(status);
  std::sort(out.us.begin(), out.us.end());
  return out;
}

}  // namespace muster::bench
