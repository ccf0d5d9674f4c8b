#include "overlay/dataplane/container/mesh_task.h"

#include <linux/rtnetlink.h>
#include <netinet/in.h>

#include <algorithm>
#include <set>
#include <utility>

#include "overlay/dataplane/kernel/sysctl.h"

namespace muster::overlay {
namespace {

constexpr uint32_t kBySource = kMeshRulesFirst;
constexpr uint32_t kByPortOnLink = 75;
constexpr uint32_t kByPort = kMeshRulesLast;

const Cidr* first_of(const std::vector<Cidr>& addresses, bool v6) {
  const auto at = std::find_if(addresses.begin(), addresses.end(),
                               [&](const Cidr& c) { return c.ip.v6 == v6; });
  return at == addresses.end() ? nullptr : &*at;
}

// Neighbours in the network itself are on the link. The main table is not asked: another network of
// the task may have the client's address on its own link, as only that node knows.
Status add_subnet_routes(const v1::Network& network, const Cidr& own, int interface,
                         std::vector<TableRoute>& out) {
  for (const auto& pool : network.state().pools()) {
    MUSTER_ASSIGN(const Prefix subnet, Prefix::parse(pool.subnet()));
    if (subnet.base.v6 != own.ip.v6) continue;
    out.push_back({kMeshTable, subnet, std::nullopt, interface, own.ip});
  }
  return ok_status();
}

}  // namespace

Ip mesh_gateway(bool v6) {
  if (!v6) return Ip::v4(169u << 24 | 254u << 16 | 77u << 8 | 1u);
  return {true, (Uint128{0xfe80} << 112) | 0x4d0001};
}

Result<std::vector<TableRoute>> mesh_subnet_routes(const v1::Network& network,
                                                   const std::vector<Cidr>& addresses,
                                                   int interface) {
  std::vector<TableRoute> out;
  for (const bool v6 : {false, true}) {
    const Cidr* own = first_of(addresses, v6);
    if (own != nullptr) MUSTER_TRY(add_subnet_routes(network, *own, interface, out));
  }
  return out;
}

Result<MeshTask> plan_mesh_task(const v1::Network& network, const std::vector<Cidr>& addresses,
                                int interface, const std::vector<v1::PortConfig>& ports) {
  // By number, each once.
  std::set<std::pair<uint8_t, uint16_t>> by_port;
  for (const v1::PortConfig& port : ports) {
    if (port.mode() != v1::PortConfig::INGRESS || port.protocol() == v1::PortConfig::TCP) continue;
    const uint8_t protocol =
        port.protocol() == v1::PortConfig::UDP ? uint8_t{IPPROTO_UDP} : uint8_t{IPPROTO_SCTP};
    by_port.emplace(protocol, static_cast<uint16_t>(port.target_port()));
  }
  MeshTask task;
  for (const bool v6 : {false, true}) {
    const Cidr* own = first_of(addresses, v6);
    if (own == nullptr) continue;
    MUSTER_TRY(add_subnet_routes(network, *own, interface, task.routes));
    const Prefix everything{Ip{v6, 0}, 0};
    task.routes.push_back({kMeshTable, everything, mesh_gateway(v6), interface, own->ip});
    task.neighbours.push_back({mesh_gateway(v6), kMeshGatewayMac});
    for (const Cidr& address : addresses) {
      if (address.ip.v6 != v6) continue;
      task.rules.push_back({kBySource, v6, address.ip, 0, 0, kMeshTable, false});
    }
    for (const auto& [protocol, number] : by_port) {
      task.rules.push_back(
          {kByPortOnLink, v6, std::nullopt, protocol, number, RT_TABLE_MAIN, true});
      task.rules.push_back({kByPort, v6, std::nullopt, protocol, number, kMeshTable, false});
    }
  }
  return task;
}

std::vector<Message> mesh_task_requests(const MeshTask& task) {
  std::vector<Message> out;
  int interface = 0;
  for (const TableRoute& route : task.routes) {
    out.push_back(add_table_route(route));
    interface = route.interface;
  }
  for (const MeshNeighbour& n : task.neighbours) {
    out.push_back(set_neighbour(interface, n.ip, n.mac));
  }
  for (const PolicyRule& rule : task.rules) out.push_back(add_rule(rule));
  return out;
}

Status set_mesh_task_sysctls() {
  // A fresh namespace may have the host's settings; an interface's own setting is that of "default"
  // when it is made, and the stricter of it and "all" counts.
  MUSTER_TRY(write_sysctl("net.ipv4.conf.all.rp_filter", "0"));
  return write_sysctl("net.ipv4.conf.default.rp_filter", "0");
}

}  // namespace muster::overlay
