#pragma once

#include <cstddef>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "overlay/dataplane/kernel/links.h"
#include "overlay/dataplane/kernel/names.h"
#include "overlay/dataplane/node_network.h"
#include "overlay/ipam/ip.h"

namespace muster::overlay {

// Index of the loopback in every fresh namespace, and of our first interface there.
inline constexpr int kLoopbackIndex = 1;
inline constexpr int kFirstIndex = 2;
// More networks than this a container cannot be in; bounds the search when it is removed.
inline constexpr size_t kNetworksMax = 32;

// One interface, worked out before anything is touched.
struct LinkPlan {
  // Where its other end is.
  enum class Home {
    kBridge,   // in the network's bridge in the host's namespace
    kSegment,  // in the namespace of the overlay network
    kWay,      // in the host's namespace, by itself: see Gateway
  };
  Home home = Home::kBridge;
  VethSpec veth;
  const v1::Network* network = nullptr;  // not of a way
  std::vector<Cidr> addresses;
  std::vector<std::pair<Ip, Ip>> peers;  // address, and that of the other end; of a way
  std::vector<Ip> default_gateways;
  bool exists = false;
};

struct AttachPlan {
  std::vector<LinkPlan> links;  // a way last
  bool v6 = false;              // some network is IPv6, too
  bool leads_out = false;       // there is a way, and it is the default route
  // Published ones, for the ingress network (mesh_task.h).
  const std::vector<v1::PortConfig>* ports = nullptr;
};

// Networks of this kind are in namespaces of their own; others are bridges of the host.
bool is_overlay(const v1::Network& network);
// The networks' subnets.
Result<std::vector<Prefix>> subnets_of(const v1::Network& network);

// What of the request is for a kernel without IPv6: networks that have both go by IPv4 there.
ContainerNetworkRequest without_ipv6(ContainerNetworkRequest request);

// What the request takes. A container in overlay networks gets a way to its node if it may get out
// by one of them and no bridge network leads it out, or if ports of the host lead to it. The
// ingress network, which brings traffic in, lets nothing out, unless it is all there is.
// `request` has to outlive the plan.
Result<AttachPlan> plan_attach(const Names& names, const ContainerNetworkRequest& request);

// What a container that runs has, as far as reconnect() has to know.
struct PresentLinks {
  std::map<std::string, size_t> overlays;  // by network id: the number of the link, as for its name
  std::set<size_t> numbers;                // of all its links; those in bridges among them
  std::set<std::string> interfaces;        // inside
  bool way = false;                        // whether it has one, out or in
  bool way_out = false;
};
struct ReconnectPlan {
  AttachPlan make;            // links in overlay networks, and a way where one is wanted anew
  std::vector<size_t> leave;  // numbers of links that go
  bool drop_way = false;      // nothing leads out any more
};
// How it comes to have what `request` says. A way that only ports of the host lead in by stays as
// it is.
Result<ReconnectPlan> plan_reconnect(const Names& names, const ContainerNetworkRequest& request,
                                     const PresentLinks& present);

}  // namespace muster::overlay
