#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "overlay/dataplane/container/attach_plan.h"
#include "overlay/dataplane/container/mesh_task.h"
#include "overlay/dataplane/kernel/netlink.h"
#include "overlay/dataplane/kernel/routing.h"
#include "overlay/ipam/ip.h"

namespace muster::overlay {

// What a container's namespace has, or is to have, of interfaces, addresses, routes, rules and
// neighbours: as far as it is ours.

struct InsideLink {
  std::string name;
  bool up = false;
};
struct InsideAddress {
  int interface = 0;
  Cidr cidr;
  std::optional<Ip> peer;  // at the other end of a way
};
struct InsideRoute {
  TableRoute route;
  bool fixed = false;  // made by a program, as ours are (RTPROT_STATIC)
};
struct InsideNeighbour {
  int interface = 0;
  MeshNeighbour neighbour;  // a permanent one
};

struct InsideState {
  std::map<int, InsideLink> links;  // by index
  std::vector<InsideAddress> addresses;
  std::vector<InsideRoute> routes;
  std::vector<PolicyRule> rules;
  std::vector<InsideNeighbour> neighbours;
};

// What configure_inside() makes of a plan whose interfaces have their indices. Pure.
Result<InsideState> planned_inside(const AttachPlan& plan);

// What is there: five listings. On a socket of the namespace.
Result<InsideState> read_inside(NetlinkSocket& socket);

// Of what a former process has left there, what is ours for certain: an address that is its
// interface's only one of the family, routes that a program made, the routing mesh's rules, routes
// and neighbours. Pure.
InsideState ours_of(InsideState found);

struct InsideMending {
  std::vector<Message> requests;
  std::vector<std::string> said;  // a sentence for each difference, to be put behind "container X "
  // Interfaces that are gone or were set down: with NET_ADMIN a container may do so, and is let.
  // What belongs on them is not missed as long.
  std::vector<std::string> left;
};
// From what is there to what is to be there. What is there besides is the container's own; and so
// is its default route when there is any. Pure.
InsideMending mend_inside(const InsideState& wanted, const InsideState& now);

}  // namespace muster::overlay
