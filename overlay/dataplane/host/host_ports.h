#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <set>

#include "base/status.h"
#include "overlay/balancer/balancer.h"
#include "overlay/dataplane/host/port_keeper.h"

namespace muster::overlay {

// Ports of the host that published ports occupy, each held by a socket: a process of the host that
// wants the port is told it is in use, and we are told when a process was first. Nothing ever
// accepts there; the rules lead traffic away before, and a port is held only in a family that has
// backends, so that a connection in the other one is refused, not left hanging.
//
// Sockets are bound here, where a clash is known at once, and are kept by netd, too: they outlive
// this object, and that of the next process adopts them instead of binding. Ports that are only
// picked are not kept. Not thread-safe.
class HostPorts {
 public:
  // Ports picked but never used are forgotten beyond this many, oldest first.
  static constexpr size_t kPickedMax = 256;

  // `keeper`: whoever keeps them, which outlives this object; nobody: they go with it.
  explicit HostPorts(PortKeeper* keeper = nullptr) : keeper_(keeper) {}
  HostPorts(const HostPorts&) = delete;
  HostPorts& operator=(const HostPorts&) = delete;

  // Takes up what a former process held: before anything is released, which is how that of it that
  // nobody wants any more is given up.
  void adopt();

  struct Families {
    bool v4 = true;
    bool v6 = false;
  };
  // OK also when held already, and where the key's address or interface is not of this host.
  // ALREADY_EXISTS "port 80/tcp is in use on this node": then in neither family.
  // `families`: in which, where the key names no address.
  Status hold(const FrontendKey& key, Families families);
  // Lets go of every port that is not in `wanted`, except those picked and not yet seen in it.
  void release_all_but(const std::set<FrontendKey>& wanted);
  // Lets go of those not in `wanted` whose number is wanted in another place.
  void release_moved(const std::set<FrontendKey>& wanted);
  // A port of the kernel's choice, free in both families and held in them.
  Result<uint32_t> pick(v1::PortConfig::Protocol protocol);

 private:
  struct Held {
    std::array<PortKeeper::Socket, 2> sockets;  // of IPv4 and IPv6
    uint64_t picked = 0;                        // order of picking; 0 = in use by a published port
  };

  using Sockets = std::map<FrontendKey, Held>;
  Sockets::iterator drop(Sockets::iterator held);
  void close(Sockets::iterator held, bool v6);
  Status hold_in(Sockets::iterator held, bool v6);
  void forget_oldest_pick();

  PortKeeper* keeper_;
  Sockets held_;
  uint64_t next_pick_ = 1;
};

}  // namespace muster::overlay
