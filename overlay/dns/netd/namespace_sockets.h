#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"
#include "base/unique_fd.h"
#include "overlay/ipam/ip.h"

namespace muster::overlay::dns {

// The address and port at which containers find their resolver.
inline constexpr const char* kResolverAddress = "127.0.0.11";

// The way into other network namespaces and back. For a thread that is alone in its process: while
// a call runs, the thread is elsewhere.
class NamespaceHopper {
 public:
  // Remembers the namespace that the calling thread is in.
  Status open();
  // A socket of a container's namespace, or of our own when `namespace_fd` is -1. Non-blocking.
  Result<UniqueFd> open_socket(int namespace_fd, bool v6, bool tcp) const;

  struct ResolverSockets {
    UniqueFd ns;   // keeps the namespace reachable, and alive
    UniqueFd udp;  // bound to 127.0.0.11, a port of the kernel's choice
    UniqueFd tcp;  // listens, likewise
    // The rules that lead there as the kernel lists them, empty = not known; and in which
    // generation of the namespace's rules they were seen to be so.
    std::string rules;
    uint32_t generation = 0;
  };
  // Opens the sockets and has the kernel lead 127.0.0.11:53 to them, so that the container itself
  // may listen on port 53 of all its addresses. Ports of a former process are taken over: its rules
  // are still there.
  Result<ResolverSockets> open_resolver(const std::string& namespace_path) const;
  // Looks whether the rules are still there (a container with NET_ADMIN may have a firewall of its
  // own that flushes all tables), and makes them anew if not: true. One request where nobody has
  // changed any rule of the namespace.
  Result<bool> mend_resolver(ResolverSockets& sockets) const;

 private:
  UniqueFd own_;
};

}  // namespace muster::overlay::dns
