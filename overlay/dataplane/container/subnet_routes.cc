#include "overlay/dataplane/container/subnet_routes.h"

#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <map>

#include "base/unique_fd.h"
#include "overlay/dataplane/container/attach_plan.h"
#include "overlay/dataplane/container/mesh_task.h"
#include "overlay/dataplane/kernel/links.h"
#include "overlay/dataplane/segment/segment_links.h"

namespace muster::overlay {
namespace {

// A network's interfaces in a container's namespace, by index, with their addresses.
Result<std::map<int, std::vector<Cidr>>> interfaces_in(NetlinkSocket& socket,
                                                       const std::vector<Prefix>& subnets) {
  MUSTER_ASSIGN(const auto addresses, list_addresses(socket));
  std::map<int, std::vector<Cidr>> interfaces;
  for (const auto& [index, cidr] : addresses) {
    // A virtual address of the network is the container's, too, on no interface of it.
    if (index == kLoopbackIndex) continue;
    const bool here = std::any_of(subnets.begin(), subnets.end(),
                                  [&](const Prefix& subnet) { return subnet.contains(cidr.ip); });
    if (here) interfaces[index].push_back(cidr);
  }
  return interfaces;
}

// Inside a container's namespace. True when something was missing.
Result<bool> complete_routes(const std::vector<Prefix>& subnets, const v1::Network& network) {
  MUSTER_ASSIGN(NetlinkSocket socket, NetlinkSocket::open(NETLINK_ROUTE));
  MUSTER_ASSIGN(const auto interfaces, interfaces_in(socket, subnets));
  std::vector<Message> missing;
  if (interfaces.empty()) return false;
  MUSTER_ASSIGN(const auto present, list_routes(socket));
  MUSTER_ASSIGN(const auto links, list_links(socket));
  for (const auto& [index, cidrs] : interfaces) {
    // One that its container has set down takes no routes; it gets them when it is up again.
    const bool up = std::any_of(links.begin(), links.end(), [index = index](const Link& link) {
      return link.index == index && link.up;
    });
    if (!up) continue;
    MUSTER_ASSIGN(auto wanted, further_routes(network, cidrs, index));
    if (network.spec().ingress()) {
      // Answers to clients are led by a table of their own.
      MUSTER_ASSIGN(const auto mesh, mesh_subnet_routes(network, cidrs, index));
      wanted.insert(wanted.end(), mesh.begin(), mesh.end());
    }
    for (const TableRoute& route : wanted) {
      const bool has = std::any_of(present.begin(), present.end(), [&](const Route& r) {
        return r.destination == route.destination && r.interface == route.interface &&
               r.table == route.table;
      });
      if (!has) missing.push_back(add_table_route(route));
    }
  }
  if (missing.empty()) return false;
  MUSTER_TRY(socket.run(missing));
  return true;
}

// Moves the calling thread there. False: the container is gone, or was never there.
Result<bool> enter(const std::string& pin) {
  const UniqueFd fd(::open(pin.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd && errno == ENOENT) return false;
  if (!fd) return fail(errno_status(errno, "cannot open its network namespace"));
  if (setns(fd.get(), CLONE_NEWNET) == 0) return true;
  // A file that a crash has left between two steps.
  if (errno == EINVAL) return false;
  return fail(errno_status(errno, "cannot enter its network namespace"));
}

// Inside the namespace of each of them that is still there. The first failure is returned, the
// others are seen to all the same.
Status in_each(const NamespaceDir& pins, const std::vector<std::string>& containers,
               const std::function<Status(const std::string& name)>& work) {
  Status first;
  const Status ran = on_own_thread([&]() -> Status {
    for (const std::string& name : containers) {
      const auto entered = enter(pins.path(name));
      if (entered && !*entered) continue;
      const Status done = entered ? work(name) : entered.error();
      if (!done.ok() && first.ok()) first = done.with_context("container " + name);
    }
    return ok_status();
  });
  return ran.ok() ? first : ran;
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
  if (!has_further_subnets(network)) return std::vector<TableRoute>();
  MUSTER_ASSIGN(const auto subnets, subnets_of(network));
  return further_routes(subnets, addresses, interface);
}

std::vector<TableRoute> further_routes(const std::vector<Prefix>& subnets,
                                       const std::vector<Cidr>& addresses, int interface) {
  std::vector<TableRoute> out;
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
  return in_each(pins, containers, [&](const std::string& name) -> Status {
    MUSTER_ASSIGN(const bool completed, complete_routes(subnets, network));
    if (completed) mended.push_back(name);
    return ok_status();
  });
}

Status lower_mtu(const NamespaceDir& pins, const std::vector<std::string>& containers,
                 const std::vector<Prefix>& subnets, uint32_t mtu) {
  if (containers.empty()) return ok_status();
  return in_each(pins, containers, [&](const std::string&) -> Status {
    MUSTER_ASSIGN(NetlinkSocket socket, NetlinkSocket::open(NETLINK_ROUTE));
    MUSTER_ASSIGN(const auto interfaces, interfaces_in(socket, subnets));
    if (interfaces.empty()) return ok_status();
    MUSTER_ASSIGN(const auto links, list_links(socket));
    std::vector<Message> lower;
    for (const Link& link : links) {
      if (!interfaces.contains(link.index) || link.mtu <= mtu) continue;
      lower.push_back(set_mtu(link.index, mtu));
    }
    return socket.run(lower);
  });
}

}  // namespace muster::overlay
