#include "manager/dispatcher/network_feed.h"

#include <utility>

namespace muster::manager::dispatcher {
namespace {

std::string without_prefix(const std::string& cidr) {
  return cidr.substr(0, cidr.find('/'));
}

void add_endpoint(const v1::Task& task, const v1::NetworkAttachment& attachment,
                  v1::NetworkFeed& feed) {
  v1::NetworkEndpoint& endpoint = *feed.add_endpoints();
  endpoint.set_task_id(task.id());
  endpoint.set_service_id(task.service_id());
  endpoint.set_name(task.name());
  endpoint.set_node_id(task.node_id());
  for (const auto& cidr : attachment.addresses()) endpoint.add_addresses(without_prefix(cidr));
  endpoint.set_mac(attachment.mac());
  endpoint.set_state(task.endpoint_state());
  *endpoint.mutable_aliases() = attachment.aliases();
}

void add_service(const v1::Service& service, const std::string& network_id, v1::NetworkFeed& feed) {
  v1::NetworkService& out = *feed.add_services();
  out.set_service_id(service.id());
  out.set_name(service.spec().annotations().name());
  for (const auto& ip : service.endpoint().virtual_ips()) {
    if (ip.network_id() == network_id) out.add_virtual_ips(without_prefix(ip.address()));
  }
  *out.mutable_ports() = service.endpoint().ports();
  for (const auto& attachment : service.spec().task().networks()) {
    if (attachment.target() == network_id) *out.mutable_aliases() = attachment.aliases();
  }
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

const v1::NetworkAttachment* attachment_in(const v1::Task& task, std::string_view network_id) {
  for (const auto& attachment : task.networks()) {
    if (attachment.network_id() == network_id) return &attachment;
  }
  return nullptr;
}

bool attaches(const v1::Service& service, std::string_view network_id) {
  for (const auto& attachment : service.spec().task().networks()) {
    if (attachment.target() == network_id) return true;
  }
  return false;
}

// What a change of a task means to its networks: nothing, unless a field they see changed.
bool same_endpoint(const v1::Task& a, const v1::Task& b) {
  return a.endpoint_state() == b.endpoint_state() && a.node_id() == b.node_id() &&
         is_member(a) == is_member(b) && a.networks_size() == b.networks_size();
}

}  // namespace

bool is_member(const v1::Task& task) {
  return !task.node_id().empty() && task.status().state() >= v1::TASK_ASSIGNED &&
         task.status().state() <= v1::TASK_RUNNING;
}

const std::vector<Bytes>& NetworkFeeds::complete(const store::Snapshot& view,
                                                 const std::string& network_id) {
  Entry& entry = entries_[network_id];
  if (!entry.messages.empty()) return entry.messages;
  v1::NetworkFeed feed;
  if (const auto network = view.get<v1::Network>(network_id)) *feed.mutable_network() = *network;
  view.tasks_of_network(network_id, [&](const store::Ptr<v1::Task>& task) {
    const auto* attachment = attachment_in(*task, network_id);
    if (attachment != nullptr && is_member(*task)) add_endpoint(*task, *attachment, feed);
    return true;
  });
  view.services_of_network(network_id, [&](const store::Ptr<v1::Service>& service) {
    add_service(*service, network_id, feed);
    return true;
  });
  if (entry.version == 0) entry.version = view.version();
  entry.messages = messages_of(network_id, feed, 0, entry.version, true);
  return entry.messages;
}

void NetworkFeeds::forget(const std::string& network_id) {
  entries_.erase(network_id);
}

std::map<std::string, NetworkFeeds::Increment> NetworkFeeds::increments(
    const store::CommitEvent& event, const Subscribers& networks) {
  std::map<std::string, v1::NetworkFeed> feeds;
  const auto wanted = [&](const std::string& id) { return networks.contains(id); };
  for (const store::AnyChange& any : *event.changes) {
    if (const auto* task = std::get_if<store::Change<v1::Task>>(&any)) {
      if (task->before && task->after && same_endpoint(*task->before, *task->after)) continue;
      const bool member = task->after && is_member(*task->after);
      const v1::Task& shown = task->after ? *task->after : *task->before;
      for (const auto& attachment : shown.networks()) {
        if (!wanted(attachment.network_id())) continue;
        if (member) {
          add_endpoint(shown, attachment, feeds[attachment.network_id()]);
        } else if (task->before && is_member(*task->before)) {
          feeds[attachment.network_id()].add_removed_task_ids(shown.id());
        }
      }
    } else if (const auto* service = std::get_if<store::Change<v1::Service>>(&any)) {
      for (const auto& [id, nodes] : networks) {
        if (service->after && attaches(*service->after, id)) {
          add_service(*service->after, id, feeds[id]);
        } else if (service->before && attaches(*service->before, id)) {
          feeds[id].add_removed_service_ids(service->before->id());
        }
      }
    } else if (const auto* network = std::get_if<store::Change<v1::Network>>(&any)) {
      if (network->after && wanted(network->after->id())) {
        *feeds[network->after->id()].mutable_network() = *network->after;
      }
    }
  }
  std::map<std::string, Increment> out;
  for (auto& [id, feed] : feeds) {
    Entry& entry = entries_[id];
    Increment increment{entry.version, event.version, {}};
    increment.messages = messages_of(id, feed, entry.version, event.version, false);
    entry = Entry{event.version, {}};
    out.emplace(id, std::move(increment));
  }
  return out;
}

}  // namespace muster::manager::dispatcher
