#include "manager/dispatcher/network_feed.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "base/cidr_text.h"
#include "base/container_names.h"
#include "manager/dispatcher/network_changes.h"
#include "manager/store/ingress_network.h"

namespace muster::manager::dispatcher {
namespace {

size_t bytes_of(const std::vector<Bytes>& messages) {
  size_t bytes = 0;
  for (const Bytes& message : messages) bytes += message->size();
  return bytes;
}

// Puts a network's objects into a feed, as one state of the store has them.
class FeedWriter {
 public:
  FeedWriter(const store::Snapshot& view, const std::string& network_id)
      : view_(view), network_id_(network_id) {}

  v1::NetworkFeed& feed() { return feed_; }

  // False when the task is no member of the network.
  bool add(const v1::Task& task) {
    const v1::NetworkAttachment* attachment = nullptr;
    for (const auto& each : task.networks()) {
      if (each.network_id() == network_id_) attachment = &each;
    }
    if (attachment == nullptr || !is_member(task)) return false;
    const v1::Node* node = node_of(task);
    v1::NetworkEndpoint& endpoint = *feed_.add_endpoints();
    endpoint.set_task_id(task.id());
    endpoint.set_service_id(task.service_id());
    endpoint.set_name(task.name());
    endpoint.set_node_id(task.node_id());
    for (const auto& cidr : attachment->addresses())
      endpoint.add_addresses(without_prefix_length(cidr));
    endpoint.set_mac(attachment->mac());
    endpoint.set_state(shown_state(task, node));
    if (shows_names(endpoint.state())) {
      const v1::ContainerStatus& container = task.status().container();
      for (std::string& name : container_names(container.container_id(), container.hostname())) {
        endpoint.add_own_names(std::move(name));
      }
    }
    *endpoint.mutable_aliases() = attachment->aliases();
    endpoint.set_data_path_addr(data_path_of(node));
    const auto service = service_of(task);
    if (const uint32_t weight = weight_of(service.get(), node); weight != 1) {
      endpoint.set_weight(weight);
    }
    return true;
  }

  // False when the service takes no part in the network.
  bool add(const v1::Service& service, bool ingress) {
    const v1::NetworkAttachmentConfig* attachment = nullptr;
    for (const auto& each : service.spec().task().networks()) {
      if (each.target() == network_id_) attachment = &each;
    }
    if (attachment == nullptr && !(ingress && is_published(service))) return false;
    v1::NetworkService& out = *feed_.add_services();
    out.set_service_id(service.id());
    out.set_name(service.spec().annotations().name());
    for (const auto& ip : service.endpoint().virtual_ips()) {
      if (ip.network_id() == network_id_) out.add_virtual_ips(without_prefix_length(ip.address()));
    }
    *out.mutable_ports() = service.endpoint().ports();
    if (attachment != nullptr) *out.mutable_aliases() = attachment->aliases();
    out.set_balancing(service.spec().endpoint().balancing());
    out.set_affinity_ns(service.spec().endpoint().affinity_ns());
    return true;
  }

  // False when no connections come in by the node.
  bool add(const v1::Node& node) {
    if (!is_ingress_node(node)) return false;
    v1::IngressNode& out = *feed_.add_ingress_nodes();
    out.set_node_id(node.id());
    out.set_index(node.ingress().index());
    for (const auto& cidr : node.ingress().addresses())
      out.add_addresses(without_prefix_length(cidr));
    out.set_mac(node.ingress().mac());
    out.set_data_path_addr(data_path_of(&node));
    return true;
  }

 private:
  const v1::Node* node_of(const v1::Task& task) {
    const auto [at, fresh] = nodes_.try_emplace(task.node_id());
    if (fresh) at->second = view_.get<v1::Node>(task.node_id());
    return at->second.get();
  }

  const store::Ptr<v1::Service>& service_of(const v1::Task& task) {
    const auto [at, fresh] = services_.try_emplace(task.service_id());
    if (fresh) at->second = view_.get<v1::Service>(task.service_id());
    return at->second;
  }

  const store::Snapshot& view_;
  const std::string& network_id_;
  v1::NetworkFeed feed_;
  std::unordered_map<std::string, store::Ptr<v1::Service>> services_;
  std::unordered_map<std::string, store::Ptr<v1::Node>> nodes_;
};

v1::NetworkFeed complete_feed(const store::Snapshot& view, const std::string& network_id) {
  FeedWriter writer(view, network_id);
  const auto network = view.get<v1::Network>(network_id);
  if (network != nullptr) *writer.feed().mutable_network() = *network;
  view.tasks_of_network(network_id, [&](const store::Ptr<v1::Task>& task) {
    writer.add(*task);
    return true;
  });
  if (network == nullptr || !network->spec().ingress()) {
    view.services_of_network(network_id, [&](const store::Ptr<v1::Service>& service) {
      writer.add(*service, false);
      return true;
    });
    return std::move(writer.feed());
  }
  view.each<v1::Service>([&](const store::Ptr<v1::Service>& service) {
    writer.add(*service, true);
    return true;
  });
  view.each<v1::Node>([&](const store::Ptr<v1::Node>& node) {
    writer.add(*node);
    return true;
  });
  return std::move(writer.feed());
}

v1::NetworkFeed increment_feed(const store::Snapshot& view, const std::string& network_id,
                               const NetworkChanges& changes) {
  FeedWriter writer(view, network_id);
  v1::NetworkFeed& feed = writer.feed();
  const auto network = view.get<v1::Network>(network_id);
  if (changes.network && network != nullptr) *feed.mutable_network() = *network;
  const bool ingress = network != nullptr && network->spec().ingress();
  for (const auto& [id, known] : changes.tasks) {
    const auto task = view.get<v1::Task>(id);
    const bool shown = task != nullptr && writer.add(*task);
    if (!shown && known) feed.add_removed_task_ids(id);
  }
  for (const auto& [id, known] : changes.services) {
    const auto service = view.get<v1::Service>(id);
    const bool shown = service != nullptr && writer.add(*service, ingress);
    if (!shown && known) feed.add_removed_service_ids(id);
  }
  for (const auto& [id, known] : changes.nodes) {
    const auto node = view.get<v1::Node>(id);
    const bool shown = node != nullptr && writer.add(*node);
    if (!shown && known) feed.add_removed_ingress_node_ids(id);
  }
  return std::move(feed);
}

std::vector<Bytes> messages_of(const std::string& network_id, const v1::NetworkFeed& feed,
                               uint64_t base, uint64_t version, bool complete) {
  v1::FeedUpdate step;
  step.mutable_feed()->set_kind(v1::FeedId::NETWORK);
  step.mutable_feed()->set_network_id(network_id);
  step.set_base_version(base);
  step.set_version(version);
  step.set_complete(complete);
  step.set_network(feed.SerializeAsString());
  return cut_into_parts(std::move(step));
}

}  // namespace

bool is_member(const v1::Task& task) {
  return !task.node_id().empty() && task.status().state() >= v1::TASK_ASSIGNED &&
         task.status().state() <= v1::TASK_RUNNING;
}

bool same_networks(const v1::Task& a, const v1::Task& b) {
  return std::equal(a.networks().begin(), a.networks().end(), b.networks().begin(),
                    b.networks().end(),
                    [](const auto& x, const auto& y) { return x.network_id() == y.network_id(); });
}

std::set<std::string, std::less<>> networks_of_node(const store::Snapshot& view,
                                                    std::string_view node_id) {
  std::set<std::string, std::less<>> out;
  view.tasks_of_node(node_id, [&](const store::Ptr<v1::Task>& task) {
    if (!is_member(*task)) return true;
    for (const auto& attachment : task->networks()) out.insert(attachment.network_id());
    return true;
  });
  if (const auto ingress = store::ingress_network(view)) out.insert(ingress->id());
  return out;
}

v1::EndpointState shown_state(const v1::Task& task, const v1::Node* node) {
  if (task.endpoint_state() != v1::ENDPOINT_READY) return task.endpoint_state();
  const bool down = node == nullptr || node->status().state() == v1::NodeStatus::DOWN;
  if (down || task.status().state() != v1::TASK_RUNNING) return v1::ENDPOINT_ABSENT;
  return task.desired_state() >= v1::TASK_SHUTDOWN ? v1::ENDPOINT_DRAINING : v1::ENDPOINT_READY;
}

std::vector<Bytes> NetworkFeeds::complete(const store::Snapshot& view,
                                          const std::string& network_id) {
  Entry& entry = entries_[network_id];
  if (!entry.messages.empty()) return entry.messages;
  if (entry.version == 0) entry.version = view.version();
  entry.messages = messages_of(network_id, complete_feed(view, network_id), 0, entry.version, true);
  entry.complete_bytes = bytes_of(entry.messages);
  entry.increment_bytes = 0;
  return entry.messages;
}

void NetworkFeeds::forget(const std::string& network_id) {
  entries_.erase(network_id);
}

std::map<std::string, NetworkFeeds::Increment> NetworkFeeds::increments(
    const store::CommitEvent& event, const Subscribers& networks) {
  std::map<std::string, Increment> out;
  for (const auto& [id, changes] : network_changes(event, networks)) {
    if (changes.removed) {
      // Everything that is left of it: nothing, not even the network.
      out.emplace(id, Increment{0, event.version, messages_of(id, {}, 0, event.version, true)});
      entries_.erase(id);
      continue;
    }
    const v1::NetworkFeed feed = increment_feed(event.after, id, changes);
    if (feed.ByteSizeLong() == 0) continue;
    Entry& entry = entries_[id];
    Increment increment{entry.version, event.version, {}};
    increment.messages = messages_of(id, feed, entry.version, event.version, false);
    entry.version = event.version;
    entry.increment_bytes += bytes_of(increment.messages);
    if (entry.increment_bytes > entry.complete_bytes / 2) {
      entry.messages.clear();
    } else if (!entry.messages.empty()) {
      entry.messages.insert(entry.messages.end(), increment.messages.begin(),
                            increment.messages.end());
    }
    out.emplace(id, std::move(increment));
  }
  return out;
}

}  // namespace muster::manager::dispatcher
