#include "manager/allocator/pass.h"

#include <google/protobuf/util/message_differencer.h>

#include <algorithm>
#include <optional>
#include <tuple>
#include <type_traits>

#include "manager/allocator/holdings.h"
#include "manager/store/ingress_network.h"

namespace muster::manager::allocator {
namespace {

using overlay::Ipam;
using store::Ptr;
using store::Snapshot;

bool equal(const google::protobuf::Message& a, const google::protobuf::Message& b) {
  return google::protobuf::util::MessageDifferencer::Equals(a, b);
}

Ptr<v1::Network> predefined(const Snapshot& view, std::string_view name) {
  auto network = view.find<v1::Network>(name);
  return network != nullptr && network->predefined() ? network : nullptr;
}

// The networks a task of this spec is in, by id; "host" and "none" among them.
Result<std::vector<v1::NetworkAttachmentConfig>> wanted_networks(const Snapshot& view,
                                                                 const v1::TaskSpec& spec,
                                                                 bool ingress_ports) {
  std::vector<v1::NetworkAttachmentConfig> wanted(spec.networks().begin(), spec.networks().end());
  bool allocating = wanted.empty();
  for (const auto& w : wanted) {
    const auto network = view.get<v1::Network>(w.target());
    if (network == nullptr) return fail(not_found("network {} not found", w.target()));
    if (!Ipam::allocates(network->spec())) continue;
    allocating = true;
  }
  // Who shares the host's network, or has none, is not led to by the mesh.
  if (!allocating) return wanted;
  Ptr<v1::Network> extra;
  if (ingress_ports) extra = store::ingress_network(view);
  if (extra == nullptr && wanted.empty()) extra = predefined(view, "bridge");
  if (extra != nullptr) wanted.emplace_back().set_target(extra->id());
  return wanted;
}

// Networks in which the service has a virtual IP, in the order of its spec. One of driver bridge is
// another on each node: nobody would be led by an address there.
std::vector<std::string> vip_networks(const Snapshot& view, const v1::Service& service) {
  std::vector<std::string> ids;
  if (service.spec().endpoint().mode() != v1::EndpointSpec::VIP) return ids;
  for (const auto& wanted : service.spec().task().networks()) {
    const auto network = view.get<v1::Network>(wanted.target());
    if (network == nullptr || !Ipam::allocates(network->spec())) continue;
    if (network->spec().driver() == "bridge") continue;
    if (std::find(ids.begin(), ids.end(), network->id()) == ids.end()) ids.push_back(network->id());
  }
  return ids;
}

}  // namespace

bool is_allocated(const Snapshot& view, const v1::Service& service) {
  const auto& wanted = service.spec().endpoint();
  const auto& have = service.endpoint();
  if (!service.allocation_error().empty() || !equal(wanted, have.spec())) return false;
  if (wanted.ports_size() != have.ports_size()) return false;
  const auto vips = vip_networks(view, service);
  if (vips.size() != static_cast<size_t>(have.virtual_ips_size())) return false;
  for (size_t i = 0; i < vips.size(); ++i) {
    if (have.virtual_ips(static_cast<int>(i)).network_id() != vips[i]) return false;
  }
  return true;
}

bool is_connecting(const v1::Task& task) {
  if (task.status().state() != v1::TASK_RUNNING) return false;
  return std::any_of(task.connected().begin(), task.connected().end(), [&](const auto& wanted) {
    return std::none_of(task.networks().begin(), task.networks().end(),
                        [&](const auto& has) { return has.network_id() == wanted.target(); });
  });
}

void Pass::undo() {
  for (auto it = undo_.rbegin(); it != undo_.rend(); ++it) (*it)();
  undo_.clear();
  given_tasks_.clear();
  given_services_.clear();
  for (const std::string& id : newly_blocked_) work_.blocked_tasks.erase(id);
  newly_blocked_.clear();
}

bool Pass::settle(const Snapshot& state) {
  bool any = false;
  for (const auto& [id, given] : given_tasks_) {
    const auto task = state.get<v1::Task>(id);
    any = give_back(ipam_, id, given, task == nullptr ? Holdings() : holdings_of(*task)) || any;
  }
  for (const auto& [id, given] : given_services_) {
    const auto service = state.get<v1::Service>(id);
    const Holdings holds = service == nullptr ? Holdings() : holdings_of(*service);
    any = give_back(ipam_, id, given, holds) || any;
  }
  return any;
}

Status Pass::run(store::Transaction& tx) {
  undo();
  more_ = false;
  bytes_ = 0;
  MUSTER_TRY(networks(tx));
  if (work_.mtus) MUSTER_TRY(mtus(tx));
  if (!work_.nodes.empty()) MUSTER_TRY(nodes(tx));
  MUSTER_TRY(services(tx));
  if (!work_.connecting.empty()) MUSTER_TRY(connections(tx));
  return tasks(tx);
}

bool Pass::full() {
  if (bytes_ < bytes_max_) return false;
  more_ = true;
  return true;
}

template <class T>
Status Pass::put(store::Transaction& tx, T object) {
  bytes_ += object.ByteSizeLong();
  if constexpr (std::is_same_v<T, v1::Task>) {
    given_tasks_.emplace_back(object.id(), holdings_of(object));
  } else if constexpr (std::is_same_v<T, v1::Service>) {
    given_services_.emplace_back(object.id(), holdings_of(object));
  }
  return tx.update(std::move(object));
}

bool wants_subnets(const v1::NetworkSpec& spec) {
  return spec.driver() != "host" && spec.driver() != "none" && spec.driver() != "null";
}

Status Pass::networks(store::Transaction& tx) {
  // The same networks get the same subnets, whatever their ids: the mesh's first, then as they
  // came.
  std::vector<Ptr<v1::Network>> wanted;
  for (const std::string& id : work_.networks) {
    auto network = tx.view().get<v1::Network>(id);
    if (network != nullptr && !network->pending_delete()) wanted.push_back(std::move(network));
  }
  std::sort(wanted.begin(), wanted.end(), [](const auto& a, const auto& b) {
    const auto key = [](const v1::Network& n) {
      return std::tuple(!n.spec().ingress(), n.meta().created_at_ns(),
                        std::string_view(n.spec().annotations().name()), std::string_view(n.id()));
    };
    return key(*a) < key(*b);
  });
  for (const auto& network : wanted) {
    const std::string& id = network->id();
    if (full()) return ok_status();
    MUSTER_TRY(ipam_.has_network(id) ? grow(tx, *network) : this->network(tx, *network));
  }
  return ok_status();
}

Status Pass::network(store::Transaction& tx, const v1::Network& network) {
  // All nodes and services share those; the automatic size would be full too soon.
  const bool shared = network.predefined() || network.spec().ingress();
  auto state = shared ? ipam_.take_shared_network(network) : ipam_.take_network(network);
  v1::Network changed = network;
  if (state) {
    undo_.emplace_back([this, id = network.id()] { ipam_.put_back_network(id); });
    *changed.mutable_state() = *std::move(state);
    changed.mutable_state()->set_mtu(overlay::overlay_mtu(network.spec(), work_.paths));
    changed.clear_allocation_error();
  } else if (network.allocation_error() == state.error().message()) {
    return ok_status();
  } else {
    changed.set_allocation_error(state.error().message());
  }
  return put(tx, std::move(changed));
}

Status Pass::grow(store::Transaction& tx, const v1::Network& network) {
  const auto missing = Ipam::missing_pools(network);
  if (missing.empty()) return ok_status();
  auto given = ipam_.grow_network(network.id(), missing);
  v1::Network changed = network;
  if (given) {
    undo_.emplace_back(
        [this, id = network.id(), pools = *given] { ipam_.shrink_network(id, pools); });
    for (auto& pool : *given) *changed.mutable_state()->add_pools() = std::move(pool);
    changed.clear_allocation_error();
  } else if (network.allocation_error() == given.error().message()) {
    return ok_status();
  } else {
    changed.set_allocation_error(given.error().message());
  }
  return put(tx, std::move(changed));
}

Status Pass::mtus(store::Transaction& tx) {
  std::vector<Ptr<v1::Network>> stale;
  tx.view().each<v1::Network>([&](const Ptr<v1::Network>& network) {
    if (network->state().pools().empty()) return true;
    const uint32_t mtu = overlay::overlay_mtu(network->spec(), work_.paths);
    if (network->state().mtu() != mtu) stale.push_back(network);
    return true;
  });
  for (const auto& network : stale) {
    if (full()) return ok_status();
    v1::Network changed = *network;
    changed.mutable_state()->set_mtu(overlay::overlay_mtu(network->spec(), work_.paths));
    MUSTER_TRY(put(tx, std::move(changed)));
  }
  return ok_status();
}

Status Pass::nodes(store::Transaction& tx) {
  const auto ingress = store::ingress_network(tx.view());
  const bool given = ingress != nullptr && ipam_.has_network(ingress->id());
  for (const std::string& id : work_.nodes) {
    if (full()) return ok_status();
    const auto node = tx.view().get<v1::Node>(id);
    if (node == nullptr || places_.holds(id)) continue;
    v1::Node changed = *node;
    v1::NodeIngress& place = *changed.mutable_ingress();
    if (given) {
      const bool had_index = places_.has_index(id);
      auto taken = places_.take(ipam_, ingress->id(), id);
      // Others fare no better. A node's warnings say it, and it is tried again when something is
      // given back.
      if (!taken) return ok_status();
      undo_.emplace_back([this, id, had_index] {
        places_.undo(ipam_, id, had_index);
        work_.nodes.insert(id);
      });
      place = *std::move(taken);
    } else if (place.addresses().empty()) {
      continue;
    } else {
      place.clear_addresses();
      place.clear_mac();
    }
    MUSTER_TRY(put(tx, std::move(changed)));
  }
  return ok_status();
}

Status Pass::services(store::Transaction& tx) {
  for (const std::string& id : work_.services) {
    if (full()) return ok_status();
    const auto found = tx.view().get<v1::Service>(id);
    if (found == nullptr || found->pending_delete() || is_allocated(tx.view(), *found)) continue;
    MUSTER_TRY(service(tx, *found));
  }
  return ok_status();
}

Status Pass::fill_ports(const Snapshot& view, const v1::Service& service, v1::Endpoint& endpoint) {
  // A port that leaves the number to us keeps the one it has.
  std::vector<v1::PortConfig> ports =
      given_ports(service.endpoint(), service.spec().endpoint().ports());
  // Ports with a number first, so that an automatic one does not take it away.
  for (const bool numbered : {true, false}) {
    for (auto& port : ports) {
      if ((port.published_port() != 0) != numbered) continue;
      if (ipam_.ports().holds(port, service.id())) continue;
      Status taken = ipam_.ports().take(port, service.id());
      if (!taken.ok()) {
        // The pool knows holders by id; people know them by name.
        std::string message = taken.message();
        const size_t at = message.find("service ");
        const std::string holder = at == std::string::npos ? "" : message.substr(at + 8, 25);
        if (const auto other = view.get<v1::Service>(holder.substr(0, holder.find(' ')))) {
          message.replace(at + 8, other->id().size(), other->spec().annotations().name());
        }
        return Status(taken.code(), message);
      }
      if (port.published_port() == 0) continue;
      undo_.emplace_back([this, port, id = service.id()] { ipam_.ports().put_back(port, id); });
    }
  }
  for (const auto& port : ports) *endpoint.add_ports() = port;
  return ok_status();
}

// Whoever waits for a network says what the network waits for.
Status Pass::has_addresses(const v1::Network& network) const {
  if (ipam_.has_network(network.id())) return ok_status();
  const std::string& why = network.allocation_error();
  return failed_precondition("network {}: {}", network.spec().annotations().name(),
                             why.empty() ? "it has no addresses yet" : why);
}

Status Pass::fill_virtual_ips(const Snapshot& view, const v1::Service& service,
                              v1::Endpoint& endpoint) {
  for (const std::string& network_id : vip_networks(view, service)) {
    auto* vip = endpoint.add_virtual_ips();
    vip->set_network_id(network_id);
    for (const auto& had : service.endpoint().virtual_ips()) {
      if (had.network_id() == network_id) vip->set_address(had.address());
    }
    if (!vip->address().empty()) continue;
    const auto network = view.get<v1::Network>(network_id);
    MUSTER_TRY(has_addresses(*network));
    auto address = ipam_.take_virtual_ip(network_id);
    if (!address) {
      return address.error().with_context("network " + network->spec().annotations().name());
    }
    undo_.emplace_back(
        [this, network_id, cidr = *address] { ipam_.put_back_address(network_id, cidr); });
    vip->set_address(*std::move(address));
  }
  return ok_status();
}

Status Pass::service(store::Transaction& tx, const v1::Service& service) {
  v1::Endpoint endpoint;
  *endpoint.mutable_spec() = service.spec().endpoint();
  const size_t mark = undo_.size();
  Status filled = fill_ports(tx.view(), service, endpoint);
  if (filled.ok()) filled = fill_virtual_ips(tx.view(), service, endpoint);
  v1::Service changed = service;
  if (filled.ok()) {
    *changed.mutable_endpoint() = std::move(endpoint);
    changed.clear_allocation_error();
  } else {
    // All or nothing for one service.
    while (undo_.size() > mark) {
      undo_.back()();
      undo_.pop_back();
    }
    if (service.allocation_error() == filled.message()) return ok_status();
    changed.set_allocation_error(filled.message());
  }
  return put(tx, std::move(changed));
}

Result<v1::NetworkAttachment> Pass::attach(const Snapshot& view,
                                           const v1::NetworkAttachmentConfig& wanted) {
  v1::NetworkAttachment out;
  out.set_network_id(wanted.target());
  *out.mutable_aliases() = wanted.aliases();
  const auto network = view.get<v1::Network>(wanted.target());
  if (network == nullptr) return fail(not_found("network {} not found", wanted.target()));
  if (!Ipam::allocates(network->spec())) return out;
  MUSTER_TRY(has_addresses(*network));
  const std::string context = "network " + network->spec().annotations().name();
  auto addresses =
      ipam_.take_addresses(network->id(), {wanted.addresses().begin(), wanted.addresses().end()});
  if (!addresses) return fail(addresses.error().with_context(context));
  for (const std::string& cidr : *addresses) {
    undo_.emplace_back([this, id = network->id(), cidr] { ipam_.put_back_address(id, cidr); });
    out.add_addresses(cidr);
  }
  MUSTER_ASSIGN(const overlay::Cidr first, overlay::Cidr::parse(addresses->front()));
  out.set_mac(overlay::mac_of(first.ip));
  return out;
}

Result<std::vector<v1::NetworkAttachment>> Pass::attachments(const Snapshot& view,
                                                             const v1::TaskSpec& spec,
                                                             bool ingress_ports) {
  std::vector<v1::NetworkAttachment> out;
  const size_t mark = undo_.size();
  MUSTER_ASSIGN(const auto wanted, wanted_networks(view, spec, ingress_ports));
  for (const auto& w : wanted) {
    auto attachment = attach(view, w);
    if (!attachment) {
      while (undo_.size() > mark) {
        undo_.back()();
        undo_.pop_back();
      }
      return fail(attachment.error());
    }
    out.push_back(*std::move(attachment));
  }
  return out;
}

Status Pass::tasks(store::Transaction& tx) {
  std::vector<Ptr<v1::Task>> fresh;
  tx.view().tasks_in_state(v1::TASK_NEW, [&](const Ptr<v1::Task>& task) {
    if (task->desired_state() > v1::TASK_COMPLETE || work_.blocked_tasks.count(task->id()) != 0) {
      return true;
    }
    if (fresh.size() == tasks_max_) {
      more_ = true;
      return false;
    }
    fresh.push_back(task);
    return true;
  });
  for (const auto& t : fresh) {
    if (full()) break;
    MUSTER_TRY(task(tx, *t));
  }
  return ok_status();
}

Status Pass::connections(store::Transaction& tx) {
  for (const std::string& id : work_.connecting) {
    if (full()) return ok_status();
    const auto task = tx.view().get<v1::Task>(id);
    if (task == nullptr || !is_connecting(*task)) continue;
    MUSTER_TRY(connect(tx, *task));
  }
  return ok_status();
}

namespace {

// What the task had in the network, if its node may still have it and it is what is wanted now: it
// is nobody else's.
std::optional<v1::NetworkAttachment> take_back(v1::Task& task,
                                               const v1::NetworkAttachmentConfig& wanted) {
  const auto ip_of = [](const std::string& text) { return overlay::Cidr::parse_lenient(text); };
  for (auto at = task.left().begin(); at != task.left().end(); ++at) {
    if (at->network_id() != wanted.target()) continue;
    const bool fits = std::all_of(
        wanted.addresses().begin(), wanted.addresses().end(), [&](const std::string& text) {
          const auto ip = ip_of(text);
          return std::any_of(at->addresses().begin(), at->addresses().end(),
                             [&](const std::string& cidr) {
                               const auto had = ip_of(cidr);
                               return ip && had && ip->ip == had->ip;
                             });
        });
    if (!fits) continue;
    v1::NetworkAttachment out = *at;
    *out.mutable_aliases() = wanted.aliases();
    task.mutable_left()->erase(at);
    return out;
  }
  return std::nullopt;
}

}  // namespace

// What cannot be had now is tried again when something is given back; what never can is dropped.
Status Pass::connect(store::Transaction& tx, const v1::Task& task) {
  v1::Task changed = task;
  changed.clear_connected();
  bool any = false;
  for (const auto& wanted : task.connected()) {
    if (tx.view().get<v1::Network>(wanted.target()) == nullptr) {
      any = true;
      continue;
    }
    *changed.add_connected() = wanted;
    const bool has =
        std::any_of(task.networks().begin(), task.networks().end(),
                    [&](const auto& each) { return each.network_id() == wanted.target(); });
    if (has) continue;
    if (auto had = take_back(changed, wanted)) {
      any = true;
      *changed.add_networks() = *std::move(had);
      continue;
    }
    auto attachment = attach(tx.view(), wanted);
    if (!attachment) continue;
    any = true;
    *changed.add_networks() = *std::move(attachment);
  }
  return any ? put(tx, std::move(changed)) : ok_status();
}

Status Pass::task(store::Transaction& tx, const v1::Task& task) {
  const Snapshot view = tx.view();
  const auto service = view.get<v1::Service>(task.service_id());
  const auto revision =
      view.get<v1::Revision>(store::revision_id(task.service_id(), task.revision()));
  if (service == nullptr || revision == nullptr) return ok_status();  // on its way out
  Status why;
  if (!is_allocated(view, *service)) {
    why = failed_precondition("{}", service->allocation_error().empty()
                                        ? "the service has no ports and addresses yet"
                                        : service->allocation_error());
  }
  v1::Task changed = task;
  if (why.ok()) {
    auto networks = attachments(view, revision->spec(), has_ingress_ports(revision->ports()));
    if (networks) {
      changed.clear_networks();
      for (auto& n : *networks) *changed.add_networks() = std::move(n);
    } else {
      why = networks.error();
    }
  }
  auto& status = *changed.mutable_status();
  if (!why.ok()) {
    if (work_.blocked_tasks.insert(task.id()).second) newly_blocked_.push_back(task.id());
    if (status.error() == why.message()) return ok_status();
    status.set_error(why.message());
    return put(tx, std::move(changed));
  }
  changed.clear_ports();
  for (auto& port : given_ports(service->endpoint(), revision->ports())) {
    *changed.add_ports() = std::move(port);
  }
  status.set_state(v1::TASK_PENDING);
  status.set_message("pending task scheduling");
  status.clear_error();
  status.set_timestamp_ns(tx.now().unix_ns);
  return put(tx, std::move(changed));
}

}  // namespace muster::manager::allocator
