// What the kernel of every host knows of overlay networks, against the state (W7).
#include <fmt/format.h>

#include <set>
#include <string>

#include "base/cidr_text.h"
#include "base/container_names.h"
#include "manager/dispatcher/network_feed.h"
#include "tests/sim/sim_rules.h"

namespace muster::sim {

namespace store = manager::store;
using TaskPtr = store::Ptr<v1::Task>;

namespace {

// An endpoint as the host should know it: the names of its own containers it is not told.
std::string endpoint_of(const store::Snapshot& state, const v1::Task& task,
                        const std::string& network_id, const std::string& host_id) {
  v1::NetworkEndpoint out;
  out.set_task_id(task.id());
  out.set_service_id(task.service_id());
  out.set_name(task.name());
  out.set_node_id(task.node_id());
  out.set_state(task.endpoint_state());
  const auto node = state.get<v1::Node>(task.node_id());
  out.set_data_path_addr(node == nullptr ? "" : node->description().data_path().address());
  for (const auto& attachment : task.networks()) {
    if (attachment.network_id() != network_id) continue;
    for (const auto& cidr : attachment.addresses()) out.add_addresses(without_prefix_length(cidr));
    out.set_mac(attachment.mac());
    *out.mutable_aliases() = attachment.aliases();
  }
  if (task.node_id() != host_id && manager::dispatcher::shows_names(out.state())) {
    const v1::ContainerStatus& container = task.status().container();
    for (std::string& name : container_names(container.container_id(), container.hostname())) {
      out.add_own_names(std::move(name));
    }
  }
  return out.ShortDebugString();
}

bool published(const v1::Service& service) {
  for (const auto& port : service.endpoint().ports()) {
    if (port.mode() == v1::PortConfig::INGRESS) return true;
  }
  return false;
}

bool attached(const v1::Service& service, const std::string& network_id) {
  for (const auto& attachment : service.spec().task().networks()) {
    if (attachment.target() == network_id) return true;
  }
  return false;
}

std::string vips_of(const v1::Service& service, const std::string& network_id) {
  std::string out;
  for (const auto& ip : service.endpoint().virtual_ips()) {
    if (ip.network_id() == network_id) out += without_prefix_length(ip.address()) + " ";
  }
  return out;
}

}  // namespace

Status SimRules::check_routes(const store::Snapshot& state, const SimHost& host) const {
  std::set<std::string> wanted;
  state.tasks_of_node(host.id(), [&](const TaskPtr& task) {
    if (!manager::dispatcher::is_member(*task)) return true;
    for (const auto& attachment : task->networks()) wanted.insert(attachment.network_id());
    return true;
  });
  Status status;
  state.each<v1::Network>([&](const store::Ptr<v1::Network>& network) {
    if (network->spec().driver() != "overlay") return true;
    if (!network->spec().ingress() && !wanted.contains(network->id())) return true;
    status = check_route(state, *network, host);
    return status.ok();
  });
  MUSTER_TRY(status);
  for (const auto& [id, route] : host.network().routes()) {
    const auto network = state.get<v1::Network>(id);
    if (network != nullptr && (network->spec().ingress() || wanted.contains(id))) continue;
    return internal_error("{} still leads into network {}, which it has no part in (W7)", host.id(),
                          id);
  }
  return ok_status();
}

// A container has the addresses of its task, also of networks that it entered while it ran (W9).
Status SimRules::check_attachments(const store::Snapshot& state, const SimHost& host) const {
  Status status;
  state.tasks_of_node(host.id(), [&](const TaskPtr& task) {
    if (task->status().state() != v1::TASK_RUNNING) return true;
    const auto has = host.network().attached().find(task->status().container().container_id());
    if (has == host.network().attached().end()) return true;  // of the host's own network
    std::set<std::string> should;
    for (const auto& attachment : task->networks()) {
      for (const auto& cidr : attachment.addresses()) should.insert(without_prefix_length(cidr));
    }
    if (has->second != should) {
      status =
          internal_error("the container of {} on {} has addresses {}, its task {} (W9)", task->id(),
                         host.id(), fmt::join(has->second, " "), fmt::join(should, " "));
    }
    return status.ok();
  });
  return status;
}

Status SimRules::check_route(const store::Snapshot& state, const v1::Network& network,
                             const SimHost& host) const {
  const auto& routes = host.network().routes();
  const auto found = routes.find(network.id());
  const std::string& name = network.spec().annotations().name();
  if (found == routes.end()) return internal_error("{} does not know {} (W7)", host.id(), name);
  const SimNodeNetwork::Route& route = found->second;
  if (!route.told) return internal_error("{} was not told of {} (W7)", host.id(), name);
  size_t endpoints = 0;
  Status status;
  state.tasks_of_network(network.id(), [&](const TaskPtr& task) {
    if (!manager::dispatcher::is_member(*task)) return true;
    ++endpoints;
    const std::string is = endpoint_of(state, *task, network.id(), host.id());
    const auto known = route.endpoints.find(task->id());
    const std::string text =
        known == route.endpoints.end() ? "nothing" : known->second.ShortDebugString();
    if (text != is) {
      status = internal_error("{} takes {} in {} for {}; it is {} (W7)", host.id(), task->name(),
                              name, text, is);
    }
    return status.ok();
  });
  MUSTER_TRY(status);
  if (endpoints != route.endpoints.size()) {
    return internal_error("{} knows {} tasks in {}, there are {} (W7)", host.id(),
                          route.endpoints.size(), name, endpoints);
  }
  size_t services = 0;
  state.each<v1::Service>([&](const store::Ptr<v1::Service>& service) {
    const bool here =
        attached(*service, network.id()) || (network.spec().ingress() && published(*service));
    if (!here) return true;
    ++services;
    const auto known = route.services.find(service->id());
    std::string vips;
    if (known != route.services.end()) {
      for (const auto& ip : known->second.virtual_ips()) vips += ip + " ";
    }
    const bool same = known != route.services.end() && vips == vips_of(*service, network.id()) &&
                      known->second.ports_size() == service->endpoint().ports_size();
    if (!same) {
      status = internal_error("{} does not know service {} of {} as it is (W7)", host.id(),
                              service->spec().annotations().name(), name);
    }
    return status.ok();
  });
  MUSTER_TRY(status);
  if (services != route.services.size()) {
    return internal_error("{} knows {} services of {}, there are {} (W7)", host.id(),
                          route.services.size(), name, services);
  }
  return ok_status();
}

}  // namespace muster::sim
