#include "manager/control/connections.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <string>

#include "manager/control/references.h"
#include "manager/control/validation.h"
#include "manager/store/network_leavers.h"
#include "overlay/ipam/ipam.h"
#include "overlay/ipam/mtu.h"

namespace muster::manager::control {
namespace {

using overlay::Ipam;
using store::Ptr;
using store::Snapshot;

// As many as a container may have interfaces (overlay/dataplane), less its way to the node.
constexpr int kNetworksMax = 31;
constexpr int kAliasesMax = 32;
constexpr size_t kContainerIdMin = 12;

const std::string& name_of(const v1::Network& network) {
  return network.spec().annotations().name();
}

bool runs(const v1::Task& task) {
  return task.status().state() == v1::TASK_RUNNING && task.desired_state() <= v1::TASK_COMPLETE;
}

std::string state_of(const v1::Task& task) {
  if (task.status().state() == v1::TASK_RUNNING) return "it is to stop";
  std::string state = v1::TaskState_Name(task.status().state()).substr(sizeof("TASK_") - 1);
  for (char& c : state) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return "it is " + state;
}

Status check_runs(const v1::Task& task) {
  if (runs(task)) return ok_status();
  return Status(StatusCode::kFailedPrecondition,
                fmt::format("task {} is not running: {}", task.name(), state_of(task)),
                "not-running");
}

// Of those that had the name the one that runs, else the last.
Ptr<v1::Task> task_of_name(const Snapshot& state, std::string_view name) {
  const size_t dot = name.rfind('.');
  if (dot == std::string_view::npos) return nullptr;
  const auto service = state.find<v1::Service>(name.substr(0, dot));
  if (service == nullptr) return nullptr;
  Ptr<v1::Task> found;
  state.tasks_of_service(service->id(), [&](const Ptr<v1::Task>& task) {
    if (task->name() != name) return true;
    const bool newer =
        found == nullptr || task->meta().created_at_ns() > found->meta().created_at_ns();
    if (found == nullptr || (runs(*task) && !runs(*found)) ||
        (runs(*task) == runs(*found) && newer)) {
      found = task;
    }
    return true;
  });
  return found;
}

Ptr<v1::Task> task_of_container(const Snapshot& state, std::string_view id, size_t* matches) {
  const bool hex = std::all_of(id.begin(), id.end(), [](char c) {
    return std::isxdigit(static_cast<unsigned char>(c)) != 0;
  });
  if (!hex || id.size() < kContainerIdMin) return nullptr;
  Ptr<v1::Task> found;
  state.tasks_in_state(v1::TASK_RUNNING, [&](const Ptr<v1::Task>& task) {
    if (!task->status().container().container_id().starts_with(id)) return true;
    found = task;
    ++*matches;
    return true;
  });
  return found;
}

Status check_connectable(const Snapshot& state, const v1::Network& network, const v1::Task& task) {
  const std::string& name = name_of(network);
  const std::string& driver = network.spec().driver();
  if (driver == "host") {
    return failed_precondition(
        "container cannot be disconnected from host network or connected to host network");
  }
  if (driver == "none" || driver == "null") {
    return failed_precondition(
        "container cannot be connected to multiple networks with one of the networks in private "
        "(none) mode");
  }
  if (network.spec().ingress()) {
    return failed_precondition(
        "network {} is the routing mesh's: publish a port of the service to have its tasks in it",
        name);
  }
  if (driver == "bridge") {
    return failed_precondition(
        "network {} is of driver bridge: running containers can be connected to overlay networks",
        name);
  }
  if (!network.spec().attachable()) {
    return permission_denied(
        "network {} not manually attachable: it was made without --attachable, which cannot be "
        "changed later",
        name);
  }
  const auto node = state.get<v1::Node>(task.node_id());
  if (node != nullptr && !node->description().no_overlays().empty()) {
    return failed_precondition("network {} cannot be entered on node {} of task {}: {}", name,
                               node->description().hostname(), task.name(),
                               node->description().no_overlays());
  }
  if (overlay::is_encrypted(network.spec()) && node != nullptr &&
      !node->description().no_encryption().empty()) {
    return failed_precondition("network {} is encrypted, which node {} of task {} cannot do: {}",
                               name, node->description().hostname(), task.name(),
                               node->description().no_encryption());
  }
  for (const auto& attachment : task.networks()) {
    const auto other = state.get<v1::Network>(attachment.network_id());
    if (other == nullptr) continue;
    if (other->spec().driver() == "host") {
      return failed_precondition(
          "container sharing network namespace with the host cannot be connected to any other "
          "network");
    }
    if (other->spec().driver() == "none" || other->spec().driver() == "null") {
      return failed_precondition(
          "container cannot be connected to multiple networks with one of the networks in private "
          "(none) mode");
    }
  }
  if (task.networks_size() >= kNetworksMax) {
    return failed_precondition("task {} is in {} networks, which is the most", task.name(),
                               task.networks_size());
  }
  return ok_status();
}

Status check_aliases(const google::protobuf::RepeatedPtrField<std::string>& aliases) {
  if (aliases.size() > kAliasesMax) {
    return invalid_argument("at most {} aliases can be given", kAliasesMax);
  }
  for (const std::string& alias : aliases) {
    const bool fits = !alias.empty() && alias.size() <= 253 &&
                      std::all_of(alias.begin(), alias.end(), [](char c) {
                        return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' ||
                               c == '_' || c == '.';
                      });
    if (!fits) {
      return invalid_argument("alias \"{}\" is not a name: letters, digits, '-', '_' and '.'",
                              alias);
    }
  }
  return ok_status();
}

// Whether the wanted addresses, and those that are left to the allocator, are to be had. It decides
// for itself, and may find that somebody else was quicker; then the task waits until they are free.
Status check_addresses(const Snapshot& state, const v1::Network& network, const v1::Task& task,
                       const google::protobuf::RepeatedPtrField<std::string>& wanted) {
  const std::string context = "network " + name_of(network);
  int v4 = 0;
  int v6 = 0;
  for (const std::string& text : wanted) {
    MUSTER_ASSIGN(const overlay::Ip ip, overlay::Ip::parse(text));
    if (++(ip.v6 ? v6 : v4) > 1) {
      return invalid_argument("only one {} address can be asked for", ip.v6 ? "IPv6" : "IPv4");
    }
  }
  if (network.state().pools().empty()) {
    const std::string& why = network.allocation_error();
    return failed_precondition("{}: {}", context, why.empty() ? "it has no addresses yet" : why);
  }
  Ipam ipam{overlay::SubnetPoolOptions()};
  MUSTER_TRY(ipam.restore_network(network));
  // Addresses that two claim are a matter for others.
  const auto restore = [&](const auto& attachments) {
    for (const auto& attachment : attachments) {
      if (attachment.network_id() != network.id()) continue;
      for (const auto& cidr : attachment.addresses()) {
        (void)ipam.restore_address(network.id(), cidr);
      }
    }
  };
  // What a task has left it may have again.
  store::tasks_that_left(state, network.id(), [&](const Ptr<v1::Task>& other) {
    const bool holds = other->status().state() == v1::TASK_RUNNING;
    if (holds && other->id() != task.id()) restore(other->left());
    return true;
  });
  state.tasks_of_network(network.id(), [&](const Ptr<v1::Task>& other) {
    if (other->status().state() < v1::TASK_COMPLETE) restore(other->networks());
    return true;
  });
  state.services_of_network(network.id(), [&](const Ptr<v1::Service>& service) {
    for (const auto& vip : service->endpoint().virtual_ips()) {
      if (vip.network_id() == network.id()) {
        (void)ipam.restore_address(network.id(), vip.address());
      }
    }
    return true;
  });
  const auto taken = ipam.take_addresses(network.id(), {wanted.begin(), wanted.end()});
  return taken ? ok_status() : taken.error().with_context(context);
}

template <class T, class Which>
void drop(google::protobuf::RepeatedPtrField<T>& from, const Which& which) {
  from.erase(std::remove_if(from.begin(), from.end(), which), from.end());
}

bool in_network(const v1::Task& task, const std::string& network_id) {
  return std::any_of(task.networks().begin(), task.networks().end(),
                     [&](const auto& each) { return each.network_id() == network_id; });
}

bool by_hand(const v1::Task& task, const std::string& network_id) {
  return std::any_of(task.connected().begin(), task.connected().end(),
                     [&](const auto& each) { return each.target() == network_id; });
}

}  // namespace

Result<Ptr<v1::Task>> resolve_task(const Snapshot& state, std::string_view reference) {
  if (auto exact = state.get<v1::Task>(reference)) return exact;
  if (auto named = task_of_name(state, reference)) return named;
  if (const size_t dot = reference.rfind('.'); dot != std::string_view::npos) {
    auto inner = state.get<v1::Task>(reference.substr(dot + 1));
    if (inner != nullptr && inner->name() == reference.substr(0, dot)) return inner;
  }
  size_t matches = 0;
  auto container = task_of_container(state, reference, &matches);
  if (matches == 1) return container;
  auto by_id = state.resolve<v1::Task>(reference);
  if (matches > 1 || (!by_id && by_id.error().code() != StatusCode::kNotFound)) {
    return matches > 1 ? fail(invalid_argument("container {} is ambiguous ({} matches found)",
                                               reference, matches))
                       : by_id;
  }
  if (!by_id) return fail(not_found("no such task or container: {}", reference));
  return by_id;
}

Result<v1::Network> grown(const Snapshot& state, const v1::Network& network,
                          const google::protobuf::RepeatedPtrField<v1::IpamPool>& pools) {
  if (pools.empty()) return network;
  const std::string& name = name_of(network);
  const std::string& driver = network.spec().driver();
  if (driver != "overlay" && driver != "bridge") {
    return fail(
        failed_precondition("network {} is of driver {}, which has no subnets", name, driver));
  }
  v1::NetworkSpec more;
  more.set_driver(driver);
  v1::Network out = network;
  for (const v1::IpamPool& pool : pools) {
    if (pool.subnet().empty()) {
      return fail(invalid_argument("a subnet is needed to make network {} larger", name));
    }
    *more.add_pools() = pool;
    *out.mutable_spec()->add_pools() = pool;
  }
  // One that was given IPv6 without being asked has it.
  v1::NetworkSpec checked = out.spec();
  for (const auto& pool : network.state().pools()) {
    if (pool.subnet().find(':') != std::string::npos) checked.set_ipv6(true);
  }
  MUSTER_TRY(validate_network_spec(checked));
  MUSTER_TRY(check_network_fits(state, more));
  // What is said there from now on is about these.
  out.clear_allocation_error();
  return out;
}

void change_labels(v1::Annotations& annotations,
                   const google::protobuf::RepeatedPtrField<v1::KeyValue>& set,
                   const google::protobuf::RepeatedPtrField<std::string>& removed) {
  std::map<std::string, std::string> labels;
  for (const auto& label : annotations.labels()) labels[label.key()] = label.value();
  for (const std::string& key : removed) labels.erase(key);
  for (const auto& label : set) labels[label.key()] = label.value();
  annotations.clear_labels();
  for (const auto& [key, value] : labels) {
    auto* label = annotations.add_labels();
    label->set_key(key);
    label->set_value(value);
  }
}

Result<v1::Task> connected(const Snapshot& state, const v1::Network& network, const v1::Task& task,
                           const v1::ConnectNetworkRequest& request) {
  MUSTER_TRY(check_runs(task));
  if (in_network(task, network.id()) || by_hand(task, network.id())) {
    return fail(already_exists("endpoint with name {} already exists in network {}", task.name(),
                               name_of(network)));
  }
  MUSTER_TRY(check_connectable(state, network, task));
  MUSTER_TRY(check_aliases(request.aliases()));
  MUSTER_TRY(check_addresses(state, network, task, request.addresses()));
  v1::Task out = task;
  v1::NetworkAttachmentConfig& wanted = *out.add_connected();
  wanted.set_target(network.id());
  *wanted.mutable_aliases() = request.aliases();
  *wanted.mutable_addresses() = request.addresses();
  return out;
}

Result<v1::Task> disconnected(const Snapshot& state, const v1::Network& network,
                              const v1::Task& task) {
  MUSTER_TRY(check_runs(task));
  const std::string& name = name_of(network);
  if (!by_hand(task, network.id())) {
    if (!in_network(task, network.id())) {
      return fail(StatusCode::kNotFound,
                  fmt::format("task {} is not connected to network {}", task.name(), name),
                  "not-connected");
    }
    const auto service = state.get<v1::Service>(task.service_id());
    const std::string service_name =
        service == nullptr ? task.service_id() : service->spec().annotations().name();
    if (network.spec().ingress()) {
      return fail(
          failed_precondition("task {} is in network {} for the ports that service {} publishes",
                              task.name(), name, service_name));
    }
    return fail(failed_precondition(
        "network {} is one of service {}, whose tasks all are in it: use `service update "
        "--network-rm {} {}`",
        name, service_name, name, service_name));
  }
  if (task.left_size() >= kNetworksMax) {
    return fail(
        failed_precondition("task {} has left {} networks of which its node has not said so yet",
                            task.name(), task.left_size()));
  }
  v1::Task out = task;
  // Its addresses are free when the node has said that the container is out of it.
  for (const auto& each : task.networks()) {
    if (each.network_id() == network.id() && !each.addresses().empty()) *out.add_left() = each;
  }
  drop(*out.mutable_connected(), [&](const auto& each) { return each.target() == network.id(); });
  drop(*out.mutable_networks(),
       [&](const auto& each) { return each.network_id() == network.id(); });
  return out;
}

std::string waits_for(const Snapshot& state, const v1::Task& task) {
  if (task.status().state() != v1::TASK_RUNNING) return {};
  std::string out;
  for (const auto& wanted : task.connected()) {
    const auto network = state.get<v1::Network>(wanted.target());
    if (network == nullptr || in_network(task, network->id())) continue;
    const Status why = check_addresses(state, *network, task, wanted.addresses());
    out += fmt::format("{}waits for an address in {}", out.empty() ? "" : "; ",
                       why.ok() ? "network " + name_of(*network) : why.message());
  }
  return out;
}

}  // namespace muster::manager::control
