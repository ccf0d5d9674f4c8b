#include "deploy/daemon/host_probe.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <memory>
#include <string>

#include "base/unique_fd.h"

namespace muster::daemon {
namespace {

using manager::dispatcher::ProbeResult;

constexpr int kTimeoutMs = 2000;

ProbeResult try_connect(const std::string& host, uint16_t port) {
  addrinfo hints{};
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found) != 0) {
    return ProbeResult::kUnreachable;
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, freeaddrinfo);
  const UniqueFd fd(
      socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP));
  if (!fd) return ProbeResult::kUnreachable;
  int error = connect(fd.get(), found->ai_addr, found->ai_addrlen) == 0 ? 0 : errno;
  if (error == EINPROGRESS) {
    pollfd polled{fd.get(), POLLOUT, 0};
    if (poll(&polled, 1, kTimeoutMs) != 1) return ProbeResult::kUnreachable;
    socklen_t size = sizeof error;
    getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &size);
  }
  if (error == 0) return ProbeResult::kAccepted;
  return error == ECONNREFUSED ? ProbeResult::kRefused : ProbeResult::kUnreachable;
}

}  // namespace

void TcpHostProbe::probe(const std::string& address, std::function<void(ProbeResult)> done) {
  std::erase_if(probes_, [](const std::future<void>& probe) {
    return probe.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
  });
  probes_.push_back(
      std::async(std::launch::async, [&strand = strand_, port = port_, address, done] {
        const ProbeResult result = try_connect(address, port);
        strand.post([done, result] { done(result); });
      }));
}

}  // namespace muster::daemon
