#include "manager/control/references.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "manager/control/payload_references.h"
#include "manager/store/ingress_network.h"
#include "manager/store/update_status.h"
#include "overlay/ipam/ipam.h"
#include "overlay/ipam/port_options.h"

namespace muster::manager::control {
namespace {

// A service in the middle of an update that may take it back to the network, by itself; empty when
// there is none.
std::string may_go_back_to(const store::Snapshot& state, std::string_view network_id) {
  std::string name;
  state.each<v1::Service>([&](const auto& service) {
    if (!store::is_unfinished(service->update_status())) return true;
    for (const auto& attachment : service->previous_spec().task().networks()) {
      if (attachment.target() == network_id) name = service->spec().annotations().name();
    }
    return name.empty();
  });
  return name;
}

// Ports that lead through the ingress network.
bool publishes(const v1::ServiceSpec& spec) {
  const auto& ports = spec.endpoint().ports();
  return std::any_of(ports.begin(), ports.end(),
                     [](const v1::PortConfig& p) { return p.mode() == v1::PortConfig::INGRESS; });
}

// Services that need the ingress network, or would if their update is taken back.
std::vector<std::string> publishers(const store::Snapshot& state) {
  std::vector<std::string> names;
  state.each<v1::Service>([&](const auto& service) {
    if (publishes(service->spec()) ||
        (store::is_unfinished(service->update_status()) && publishes(service->previous_spec()))) {
      names.push_back(service->spec().annotations().name());
    }
    return true;
  });
  return names;
}

}  // namespace

Status resolve_references(const store::Snapshot& state, v1::ServiceSpec& spec) {
  std::set<std::string> networks;
  for (auto& attachment : *spec.mutable_task()->mutable_networks()) {
    MUSTER_ASSIGN(const auto network, state.resolve<v1::Network>(attachment.target()));
    if (network->spec().ingress()) {
      return invalid_argument("Service cannot be explicitly attached to the ingress network \"{}\"",
                              network->spec().annotations().name());
    }
    if (!networks.insert(network->id()).second) {
      return invalid_argument("network {} is given twice", network->spec().annotations().name());
    }
    attachment.set_target(network->id());
  }
  if (publishes(spec) && store::ingress_network(state) == nullptr) {
    return failed_precondition(
        "service needs ingress network, but no ingress network is present: `network create "
        "--ingress NAME` makes one");
  }
  return resolve_payloads(state, *spec.mutable_task()->mutable_container());
}

Status check_port_conflicts(const store::Snapshot& state, std::string_view service_id,
                            const v1::ServiceSpec& spec) {
  const auto& wanted = spec.endpoint().ports();
  if (wanted.empty()) return ok_status();
  Status conflict;
  state.each<v1::Service>([&](const auto& other) {
    if (other->id() == service_id) return true;
    const auto check = [&](const v1::PortConfig& theirs) {
      for (const v1::PortConfig& mine : wanted) {
        if (mine.published_port() == 0 || mine.published_port() != theirs.published_port() ||
            mine.protocol() != theirs.protocol()) {
          continue;
        }
        if (mine.mode() == v1::PortConfig::HOST && theirs.mode() == v1::PortConfig::HOST) continue;
        if (!overlay::binds_overlap(mine.bind(), theirs.bind())) continue;
        conflict = invalid_argument(
            "port '{}' is already in use by service '{}' ({}) as {} port", mine.published_port(),
            other->spec().annotations().name(), other->id(),
            theirs.mode() == v1::PortConfig::HOST ? "a host-published" : "an ingress");
      }
    };
    for (const auto& port : other->spec().endpoint().ports()) check(port);
    // Allocated numbers, too.
    for (const auto& port : other->endpoint().ports()) check(port);
    return conflict.ok();
  });
  return conflict;
}

Status check_network_fits(const store::Snapshot& state, const v1::NetworkSpec& spec) {
  std::vector<overlay::Prefix> wanted;
  for (const auto& pool : spec.pools()) {
    if (const auto subnet = overlay::Prefix::parse(pool.subnet())) wanted.push_back(*subnet);
  }
  const auto vni = overlay::Ipam::wanted_vni(spec);
  Status clash;
  state.each<v1::Network>([&](const auto& other) {
    const std::string& name = other->spec().annotations().name();
    const bool given = !other->state().pools().empty();
    // What it could not be given is not its own.
    if (!given && !other->allocation_error().empty()) return true;
    const auto theirs =
        given ? Result<uint32_t>(other->state().vni()) : overlay::Ipam::wanted_vni(other->spec());
    if (vni && *vni != 0 && theirs && *theirs == *vni) {
      clash = already_exists("VXLAN id {} is in use by network {}", *vni, name);
    }
    const auto compare = [&](const v1::IpamPool& pool) {
      const auto theirs = overlay::Prefix::parse(pool.subnet());
      if (!theirs) return;
      for (const overlay::Prefix& mine : wanted) {
        if (!mine.overlaps(*theirs)) continue;
        clash =
            already_exists("subnet {} overlaps {} of network {}", mine.str(), theirs->str(), name);
      }
    };
    for (const auto& pool : other->state().pools()) compare(pool);
    // What it is about to get; one that grows has others already.
    for (const auto& pool : overlay::Ipam::missing_pools(*other)) compare(pool);
    return clash.ok();
  });
  return clash;
}

Status check_network_unused(const store::Snapshot& state, const v1::Network& network) {
  if (network.spec().ingress()) {
    if (const auto names = publishers(state); !names.empty()) {
      return failed_precondition(
          "ingress network cannot be removed because service{} {} depend{} "
          "on it",
          names.size() > 1 ? "s" : "", fmt::join(names, ", "), names.size() > 1 ? "" : "s");
    }
  }
  std::vector<std::string> users;
  state.services_of_network(network.id(), [&](const auto& service) {
    users.push_back(service->spec().annotations().name());
    return true;
  });
  if (!users.empty()) {
    return failed_precondition("network {} is in use by service{} {}",
                               network.spec().annotations().name(), users.size() > 1 ? "s" : "",
                               fmt::join(users, ", "));
  }
  if (const std::string back = may_go_back_to(state, network.id()); !back.empty()) {
    return failed_precondition(
        "network {} is in use by the spec that the update of service {} "
        "would be rolled back to",
        network.spec().annotations().name(), back);
  }
  store::Ptr<v1::Task> user;
  state.tasks_of_network(network.id(), [&](const auto& task) {
    const bool job = task->desired_state() == v1::TASK_COMPLETE;
    if (job ? task->status().state() < v1::TASK_COMPLETE
            : task->desired_state() <= v1::TASK_RUNNING) {
      user = task;
    }
    return user == nullptr;
  });
  if (user == nullptr) return ok_status();
  const std::string& name = network.spec().annotations().name();
  const bool by_hand = std::any_of(user->connected().begin(), user->connected().end(),
                                   [&](const auto& each) { return each.target() == network.id(); });
  if (!by_hand) {
    return failed_precondition("network {} is in use by task {} ({})", name, user->name(),
                               user->id());
  }
  return failed_precondition(
      "network {} is in use by task {} ({}), which was connected to it: use `network disconnect`",
      name, user->name(), user->id());
}

}  // namespace muster::manager::control
