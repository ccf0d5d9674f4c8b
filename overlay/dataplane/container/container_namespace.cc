#include "overlay/dataplane/container/container_namespace.h"

#include <fcntl.h>
#include <linux/netlink.h>
#include <sched.h>

#include <cerrno>
#include <optional>

#include "overlay/dataplane/container/mesh_task.h"
#include "overlay/dataplane/container/subnet_routes.h"
#include "overlay/dataplane/host/gateway_links.h"
#include "overlay/dataplane/kernel/sysctl.h"

namespace muster::overlay {
namespace {

// The allocator sees to it that addresses are unique; probing would cost a second or two in which
// nothing is sent.
Status trust_addresses_v6() {
  MUSTER_TRY(write_sysctl("net.ipv6.conf.default.accept_dad", "0"));
  return write_sysctl("net.ipv6.conf.default.dad_transmits", "0");
}

// Settings of a fresh namespace; runs inside it. The first two are what Docker gives: containers
// that do not run as root may bind low ports and send pings.
Status set_sysctls(const ContainerNetworkRequest& request, bool v6, bool created) {
  if (created) {
    MUSTER_TRY(write_sysctl("net.ipv4.ip_unprivileged_port_start", "0"));
    MUSTER_TRY(write_sysctl("net.ipv4.ping_group_range", "0 2147483647"));
    // Interfaces without an IPv6 address get none of their own: saves detection of duplicates and
    // keeps applications from trying IPv6 first.
    if (v6) MUSTER_TRY(trust_addresses_v6());
    if (!v6 && kernel_has_ipv6()) (void)write_sysctl("net.ipv6.conf.default.disable_ipv6", "1");
  }
  for (const ContainerLink& link : request.links) {
    if (link.network.spec().ingress()) MUSTER_TRY(set_mesh_task_sysctls());
  }
  for (const auto& sysctl : request.sysctls) {
    if (!sysctl.key().starts_with("net.") && !sysctl.key().starts_with("net/")) {
      return invalid_argument("sysctl {} is not of the network", sysctl.key());
    }
    MUSTER_TRY(write_sysctl(sysctl.key(), sysctl.value()));
  }
  return ok_status();
}

Status prepare(NamespaceDir& pins, const ContainerNetworkRequest& request, AttachPlan& plan,
               std::optional<Inside>& inside) {
  bool created = false;
  MUSTER_TRY(pins.enter(request.container_id, &created));
  MUSTER_TRY(set_sysctls(request, plan.v6, created));
  MUSTER_ASSIGN(NetlinkSocket socket, NetlinkSocket::open(NETLINK_ROUTE));
  UniqueFd fd(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  if (!fd) return errno_status(errno, "cannot open a network namespace");
  for (LinkPlan& link : plan.links) {
    if (created) continue;
    MUSTER_ASSIGN(const auto there, find_link(socket, link.veth.peer_name));
    link.exists = there.has_value();
    link.veth.peer_index = there ? there->index : 0;
  }
  inside.emplace(Inside{std::move(socket), std::move(fd)});
  return ok_status();
}

bool of_interest(const Ip& ip) {
  static const Prefix kLoopback{Ip::v4(127u << 24), 8};
  static const Prefix kLinkLocal{Ip{true, Uint128{0xfe80} << 112}, 10};
  return !kLoopback.contains(ip) && !kLinkLocal.contains(ip) && ip != Ip{true, 1};
}

}  // namespace

Result<Inside> prepare_namespace(NamespaceDir& pins, const ContainerNetworkRequest& request,
                                 AttachPlan& plan) {
  std::optional<Inside> inside;
  MUSTER_TRY(on_own_thread([&] { return prepare(pins, request, plan, inside); }));
  return std::move(*inside);
}

Result<Inside> enter_namespace(const NamespaceDir& pins, const std::string& container_id, bool v6,
                               std::set<std::string>& interfaces) {
  std::optional<Inside> inside;
  MUSTER_TRY(on_own_thread([&]() -> Status {
    UniqueFd fd(::open(pins.path(container_id).c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd || setns(fd.get(), CLONE_NEWNET) != 0) {
      return not_found("container {} has no network here", container_id);
    }
    if (v6) {
      // Made without a network that has it, its interfaces were to do without.
      MUSTER_TRY(write_sysctl("net.ipv6.conf.default.disable_ipv6", "0"));
      MUSTER_TRY(trust_addresses_v6());
    }
    MUSTER_ASSIGN(NetlinkSocket socket, NetlinkSocket::open(NETLINK_ROUTE));
    MUSTER_ASSIGN(const auto links, list_links(socket));
    for (const Link& link : links) interfaces.insert(link.name);
    inside.emplace(Inside{std::move(socket), std::move(fd)});
    return ok_status();
  }));
  return std::move(*inside);
}

Status configure_inside(NetlinkSocket& inside, AttachPlan& plan) {
  std::vector<Message> batch;
  batch.push_back(set_up(kLoopbackIndex));
  for (LinkPlan& link : plan.links) {
    if (link.veth.peer_index == 0) {
      MUSTER_ASSIGN(const auto there, find_link(inside, link.veth.peer_name));
      if (!there) return internal_error("interface {} vanished", link.veth.peer_name);
      link.veth.peer_index = there->index;
    }
    const int index = link.veth.peer_index;
    for (const Cidr& address : link.addresses) batch.push_back(add_address(index, address));
    batch.push_back(set_up(index));
    for (const auto& [address, peer] : link.peers) {
      batch.push_back(add_peer_address(index, address, peer));
      batch.push_back(add_peer_route(index, peer));
    }
    for (const Ip& gateway : link.default_gateways) {
      batch.push_back(add_default_route(index, gateway));
    }
    if (link.home == LinkPlan::Home::kSegment) {
      MUSTER_ASSIGN(const auto further, further_routes(*link.network, link.addresses, index));
      for (const TableRoute& route : further) batch.push_back(add_table_route(route));
    }
    if (link.network == nullptr || !link.network->spec().ingress()) continue;
    MUSTER_ASSIGN(const MeshTask mesh,
                  plan_mesh_task(*link.network, link.addresses, index, *plan.ports));
    for (Message& m : mesh_task_requests(mesh)) batch.push_back(std::move(m));
  }
  return inside.run(batch);
}

Status visit_addresses(const NamespaceDir& pins, const std::vector<std::string>& wanted,
                       const std::function<void(const std::string& name, const Ip& ip)>& visit) {
  if (wanted.empty()) return ok_status();
  return on_own_thread([&]() -> Status {
    for (const std::string& name : wanted) {
      // A file that is no namespace was left by a crash.
      UniqueFd fd(::open(pins.path(name).c_str(), O_RDONLY | O_CLOEXEC));
      if (!fd || setns(fd.get(), CLONE_NEWNET) != 0) continue;
      MUSTER_ASSIGN(NetlinkSocket socket, NetlinkSocket::open(NETLINK_ROUTE));
      MUSTER_ASSIGN(const auto addresses, list_addresses(socket));
      for (const auto& [index, cidr] : addresses) {
        if (of_interest(cidr.ip)) visit(name, cidr.ip);
      }
    }
    return ok_status();
  });
}

}  // namespace muster::overlay
