#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "muster/v1/dispatcher.pb.h"
#include "overlay/dataplane/kernel/nft_table.h"

namespace muster::overlay {

// The rules of the routing mesh as text. Pure.
//
// Inside the ingress network's namespace, for the tasks of this node: a connection remembers the
// node it came in by (mark, by the frame's source MAC), and its answers, which tasks send to a
// gateway that does not exist, get that node's MAC. The number of nodes does not matter to a
// packet. Frames of each node are a connection tracking zone of their own, so that two nodes may
// deliver the same client address and port: the second one's port changes on its way in.
//
// On the host, for what comes in by this node: what is led to tasks passes, and nothing else from
// or to the network; only what has no address that means anything elsewhere is masqueraded.

// Tables inside the namespace.
inline constexpr std::string_view kMeshTableName = "mesh";

// Elements of the three maps: key and value as nftables writes them. Equal to one another or not,
// never looked into.
struct MeshMaps {
  using Map = std::map<std::string, std::string>;
  Map marks;  // inet: MAC of a node -> mark of its connections
  Map zones;  // inet: MAC of a node -> zone
  Map macs;   // bridge: mark -> MAC

  friend bool operator==(const MeshMaps&, const MeshMaps&) = default;
};

// What the maps shall hold. Nodes that the maps cannot hold (no MAC, no index, or one that another
// node has) are left out and told in `left_out` (may be null), a sentence each.
MeshMaps mesh_maps(const std::map<std::string, v1::IngressNode>& nodes,
                   std::vector<std::string>* left_out);

// With what of the maps is theirs.
NftTable mesh_inet_table(const MeshMaps& maps);
NftTable mesh_bridge_table(const MeshMaps& maps);
// One transaction from one state of the maps to another; empty when they are equal.
std::string exchange_mesh_maps(const MeshMaps& from, const MeshMaps& to);
// What two listings say of the maps.
Result<MeshMaps> parse_mesh_maps(std::string_view inet_listing, std::string_view bridge_listing);

// The host's table. `interface` is the node's own one in the ingress network, `subnets` are the
// network's.
NftTable mesh_host_table(std::string_view name, std::string_view interface,
                         const std::vector<std::string>& subnets);

}  // namespace muster::overlay
