#include "overlay/dataplane/esp/esp_socket.h"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/udp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>

#include "overlay/dataplane/kernel/sysctl.h"

namespace muster::overlay {

Result<UniqueFd> open_encapsulation(bool v6, uint16_t port) {
  UniqueFd fd(socket(v6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd) {
    const Status made = errno_status(errno, "make a UDP socket");
    return fail(errno == EAFNOSUPPORT ? not_found("{}", made.message()) : made);
  }
  const int one = 1;
  // What is not ESP, which the kernel takes before it asks the filter, would wait for a reader.
  sock_filter nothing[] = {BPF_STMT(BPF_RET | BPF_K, 0)};
  const sock_fprog filter = {1, nothing};
  (void)setsockopt(fd.get(), SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter));
  sockaddr_in6 any6{};
  any6.sin6_family = AF_INET6;
  any6.sin6_port = htons(port);
  sockaddr_in any{};
  any.sin_family = AF_INET;
  any.sin_port = htons(port);
  if (v6) (void)setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
  const int bound = v6 ? bind(fd.get(), reinterpret_cast<const sockaddr*>(&any6), sizeof(any6))
                       : bind(fd.get(), reinterpret_cast<const sockaddr*>(&any), sizeof(any));
  if (bound != 0 && errno == EADDRINUSE) {
    return fail(already_exists(
        "UDP port {}, on which encrypted networks travel, is in use by another program on this "
        "node (swarm update --encryption-udp-port)",
        port));
  }
  if (bound != 0) return fail(errno_status(errno, fmt::format("bind UDP port {}", port)));
  const int kind = UDP_ENCAP_ESPINUDP;
  if (setsockopt(fd.get(), IPPROTO_UDP, UDP_ENCAP, &kind, sizeof(kind)) != 0) {
    return fail(errno_status(errno, "have the kernel take ESP out of UDP"));
  }
  return fd;
}

Status EncapsulationSocket::open(uint16_t port) {
  if (port == port_) return ok_status();
  close();
  if (port == 0) return ok_status();
  std::vector<UniqueFd> made;
  MUSTER_ASSIGN(made.emplace_back(), open_encapsulation(false, port));
  if (kernel_has_ipv6()) {
    MUSTER_ASSIGN(made.emplace_back(), open_encapsulation(true, port));
  }
  sockets_ = std::move(made);
  port_ = port;
  return ok_status();
}

}  // namespace muster::overlay
