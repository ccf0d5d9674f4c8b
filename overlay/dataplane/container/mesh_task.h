#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "muster/v1/objects.pb.h"
#include "muster/v1/specs.pb.h"
#include "overlay/dataplane/kernel/netlink.h"
#include "overlay/dataplane/kernel/routing.h"
#include "overlay/ipam/ip.h"

namespace muster::overlay {

// The far side of the routing mesh: what the namespace of a task needs so that its answers to
// clients far away leave by the ingress network, whatever its default route is. They go to a
// gateway that does not exist; the bridge of the network puts the ingress node's MAC in its place
// (mesh_ruleset.h).

// Of the gateway that does not exist. No interface can have it: it belongs to a link-local address.
inline constexpr const char* kMeshGatewayMac = "02:42:a9:fe:4d:01";
inline constexpr uint32_t kMeshTable = 77;
// Where a task's rules stand: before those of the main table (32766), with room for others'.
inline constexpr uint32_t kMeshRulesFirst = 74;
inline constexpr uint32_t kMeshRulesLast = 76;
// 169.254.77.1 and fe80::4d:1
Ip mesh_gateway(bool v6);

struct MeshNeighbour {
  Ip ip;
  std::string mac;
};

struct MeshTask {
  std::vector<TableRoute> routes;
  std::vector<MeshNeighbour> neighbours;
  std::vector<PolicyRule> rules;
};

// `network` is the ingress network, `addresses` the task's in it, `interface` the index of the
// interface that has them. Of `ports` those are looked at that are published through the mesh.
// Pure.
//
// A server that listens on every address names no source in answers by UDP or SCTP, so the route
// picks one, before anything could know which flow it is: for each such port, answers are told by
// protocol and source port. In turn, a port published through the mesh cannot be a port of the
// host, too, on the same UDP port of the container.
Result<MeshTask> plan_mesh_task(const v1::Network& network, const std::vector<Cidr>& addresses,
                                int interface, const std::vector<v1::PortConfig>& ports);

// Those of its routes that lead to the network's subnets, on the link. Pure.
Result<std::vector<TableRoute>> mesh_subnet_routes(const v1::Network& network,
                                                   const std::vector<Cidr>& addresses,
                                                   int interface);

// A task's part as requests; what is there already is fine. To be sent when the interface is up and
// has its addresses.
std::vector<Message> mesh_task_requests(const MeshTask& task);

// Settings of the task's namespace, on a thread inside it and before it has interfaces: a client's
// packet comes in by an interface that no route to the client leads out of.
Status set_mesh_task_sysctls();

}  // namespace muster::overlay
