#include "overlay/dataplane/host_ports.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <sstream>
#include <string>

#include "overlay/ipam/port_pool.h"

namespace muster::overlay {
namespace {

// A socket that holds the port in one family, bound to every address. -errno on failure. Stream
// sockets listen, since a merely bound one does not keep others out who set SO_REUSEADDR; they set
// it themselves, so that connections of a former listener that linger are no obstacle.
int bind_port(v1::PortConfig::Protocol protocol, uint32_t port, bool v6) {
  const bool stream = protocol != v1::PortConfig::UDP;
  const int number = protocol == v1::PortConfig::SCTP ? IPPROTO_SCTP : 0;
  const int on = 1;
  const int fd =
      socket(v6 ? AF_INET6 : AF_INET, (stream ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, number);
  if (fd < 0) return -errno;
  sockaddr_storage storage{};
  socklen_t length = sizeof(sockaddr_in);
  storage.ss_family = v6 ? AF_INET6 : AF_INET;
  if (v6) {
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    reinterpret_cast<sockaddr_in6&>(storage).sin6_port = htons(static_cast<uint16_t>(port));
    length = sizeof(sockaddr_in6);
  } else {
    reinterpret_cast<sockaddr_in&>(storage).sin_port = htons(static_cast<uint16_t>(port));
  }
  if (stream) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  const bool bound = bind(fd, reinterpret_cast<const sockaddr*>(&storage), length) == 0;
  if (bound && (!stream || listen(fd, 1) == 0)) return fd;
  const int error = errno;
  close(fd);
  return -error;
}

// Whether a TCP socket listens on the port. An outgoing connection that has it as its own source
// port keeps us from binding, but does not serve it.
bool somebody_listens(uint32_t port) {
  for (const char* table : {"/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"}) {
    std::ifstream file(table);
    std::string line;
    std::getline(file, line);
    while (std::getline(file, line)) {
      std::istringstream words(line);
      std::string slot, local, remote, state;
      words >> slot >> local >> remote >> state;
      const size_t colon = local.rfind(':');
      if (state != "0A" || colon == std::string::npos) continue;
      if (std::stoul(local.substr(colon + 1), nullptr, 16) == port) return true;
    }
  }
  return false;
}

}  // namespace

HostPorts::~HostPorts() {
  for (auto& [key, held] : held_) {
    if (held.fd >= 0) close(held.fd);
  }
}

Status HostPorts::hold(const FrontendKey& key, bool v6) {
  const auto it = held_.find(key);
  if (it != held_.end()) {
    it->second.picked = 0;
    return ok_status();
  }
  const int fd = bind_port(key.protocol, key.port, v6);
  const std::string name = fmt::format("{}/{}", key.port, protocol_name(key.protocol));
  if (fd == -EADDRINUSE && (key.protocol != v1::PortConfig::TCP || somebody_listens(key.port))) {
    return already_exists("port {} is in use on this node", name);
  }
  // A host without the protocol's sockets (SCTP as a module) can still forward it.
  const bool fine =
      fd >= 0 || fd == -EADDRINUSE || fd == -EPROTONOSUPPORT || fd == -ESOCKTNOSUPPORT;
  if (!fine) return errno_status(-fd, "cannot reserve port " + name);
  held_[key] = Held{fd < 0 ? -1 : fd, 0};
  return ok_status();
}

void HostPorts::release_all_but(const std::set<FrontendKey>& wanted) {
  for (auto it = held_.begin(); it != held_.end();) {
    if (it->second.picked != 0 || wanted.count(it->first) != 0) {
      ++it;
      continue;
    }
    if (it->second.fd >= 0) close(it->second.fd);
    it = held_.erase(it);
  }
}

Result<uint32_t> HostPorts::pick(v1::PortConfig::Protocol protocol) {
  const int fd = bind_port(protocol, 0, false);
  if (fd < 0) {
    return fail(errno_status(
        -fd, fmt::format("cannot reserve a {} port of this node", protocol_name(protocol))));
  }
  sockaddr_storage address{};
  socklen_t length = sizeof(address);
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length);
  const uint32_t port = ntohs(reinterpret_cast<const sockaddr_in&>(address).sin_port);
  held_[{protocol, port}] = Held{fd, next_pick_++};
  size_t picked = 0;
  auto oldest = held_.end();
  for (auto it = held_.begin(); it != held_.end(); ++it) {
    if (it->second.picked == 0) continue;
    ++picked;
    if (oldest == held_.end() || it->second.picked < oldest->second.picked) oldest = it;
  }
  if (picked > kPickedMax) {
    if (oldest->second.fd >= 0) close(oldest->second.fd);
    held_.erase(oldest);
  }
  return port;
}

}  // namespace muster::overlay
