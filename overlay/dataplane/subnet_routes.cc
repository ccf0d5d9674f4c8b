#include "overlay/dataplane/subnet_routes.h"

#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sched.h>

#include <algorithm>
#include <map>

#include "base/unique_fd.h"
#include "overlay/dataplane/attach_plan.h"
#include "overlay/dataplane/links.h"

namespace muster::overlay {
namespace {

// Inside a container's namespace. True when something was missing.
Result<bool> complete_routes(const std::vector<Prefix>& subnets, const v1::Network& network) {
  MUSTER_ASSIGN(NetlinkSocket socket, NetlinkSocket::open(NETLINK_ROUTE));
  MUSTER_ASSIGN(const auto addresses, list_addresses(socket));
  std::map<int, std::vector<Cidr>> interfaces;
  for (const auto& [index, cidr] : addresses) {
    // A virtual address of the network is the container's, too, on no interface of it.
    if (index == kLoopbackIndex) continue;
    const bool here = std::any_of(subnets.begin(), subnets.end(),
                                  [&](const Prefix& subnet) { return subnet.contains(cidr.ip); });
    if (here) interfaces[index].push_back(cidr);
  }
  std::vector<Message> missing;
  if (interfaces.empty()) return false;
  MUSTER_ASSIGN(const auto present, list_routes(socket));
  for (const auto& [index, cidrs] : interfaces) {
    MUSTER_ASSIGN(const auto wanted, further_routes(network, cidrs, index));
    for (const TableRoute& route : wanted) {
      const bool has = std::any_of(present.begin(), present.end(), [&](const Route& r) {
        return r.destination == route.destination && r.interface == route.interface;
      });
      if (!has) missing.push_back(add_table_route(route));
    }
  }
  if (missing.empty()) return false;
  MUSTER_TRY(socket.run(missing));
  return true;
}

}  // namespace

bool has_further_subnets(const v1::Network& network) {
  int v6 = 0;
  for (const auto& pool : network.state().pools()) {
    v6 += pool.subnet().find(':') != std::string::npos ? 1 : 0;
  }
  return v6 > 1 || network.state().pools_size() - v6 > 1;
}

Result<std::vector<TableRoute>> further_routes(const v1::Network& network,
                                               const std::vector<Cidr>& addresses, int interface) {
  std::vector<TableRoute> out;
  if (!has_further_subnets(network)) return out;
  MUSTER_ASSIGN(const auto subnets, subnets_of(network));
  for (const Prefix& subnet : subnets) {
    const Cidr* own = nullptr;
    bool inside = false;
    for (const Cidr& cidr : addresses) {
      if (cidr.ip.v6 != subnet.base.v6) continue;
      if (own == nullptr) own = &cidr;
      inside = inside || subnet.contains(cidr.ip);
    }
    if (own == nullptr || inside) continue;
    out.push_back({RT_TABLE_MAIN, subnet, std::nullopt, interface, own->ip});
  }
  return out;
}

Status lead_to_further_subnets(const NamespaceDir& pins, const std::vector<std::string>& containers,
                               const v1::Network& network, std::vector<std::string>& mended) {
  if (containers.empty() || !has_further_subnets(network)) return ok_status();
  MUSTER_ASSIGN(const auto subnets, subnets_of(network));
  Status first;
  const Status ran = on_own_thread([&]() -> Status {
    for (const std::string& name : containers) {
      UniqueFd fd(::open(pins.path(name).c_str(), O_RDONLY | O_CLOEXEC));
      if (!fd || setns(fd.get(), CLONE_NEWNET) != 0) continue;
      const auto done = complete_routes(subnets, network);
      if (!done && first.ok()) first = done.error().with_context("container " + name);
      if (done && *done) mended.push_back(name);
    }
    return ok_status();
  });
  return ran.ok() ? first : ran;
}

}  // namespace muster::overlay
