#include "overlay/dataplane/network_truth.h"

#include <google/protobuf/util/message_differencer.h>

#include <utility>

namespace muster::overlay {
namespace {

using google::protobuf::util::MessageDifferencer;

template <class Value>
void put(std::map<std::string, Value>& known, const std::string& key, const Value& value,
         std::set<std::string>& changed) {
  const auto [at, fresh] = known.try_emplace(key, value);
  if (!fresh) {
    if (MessageDifferencer::Equals(at->second, value)) return;
    at->second = value;
  }
  changed.insert(key);
}

// Takes away what a complete step does not name.
template <class Value, class Named>
void keep_only(std::map<std::string, Value>& known, const Named& named,
               std::set<std::string>& changed) {
  for (auto it = known.begin(); it != known.end();) {
    if (named.contains(it->first)) {
      ++it;
      continue;
    }
    changed.insert(it->first);
    it = known.erase(it);
  }
}

template <class Value, class Keys>
void drop(std::map<std::string, Value>& known, const Keys& keys, std::set<std::string>& changed) {
  for (const std::string& key : keys) {
    if (known.erase(key) != 0) changed.insert(key);
  }
}

}  // namespace

NetworkDifference NetworkTruths::apply(const NetworkStep& step) {
  NetworkDifference out;
  NetworkTruth& truth = networks_[step.network_id];
  const v1::NetworkFeed& feed = step.feed;
  if (step.complete) {
    std::set<std::string> tasks, services, nodes;
    for (const auto& endpoint : feed.endpoints()) tasks.insert(endpoint.task_id());
    for (const auto& service : feed.services()) services.insert(service.service_id());
    for (const auto& node : feed.ingress_nodes()) nodes.insert(node.node_id());
    keep_only(truth.endpoints, tasks, out.task_ids);
    keep_only(truth.services, services, out.service_ids);
    keep_only(truth.ingress_nodes, nodes, out.ingress_node_ids);
  }
  if (feed.has_network() && !MessageDifferencer::Equals(truth.network, feed.network())) {
    truth.network = feed.network();
    out.network = true;
  }
  for (const auto& e : feed.endpoints()) put(truth.endpoints, e.task_id(), e, out.task_ids);
  for (const auto& s : feed.services()) put(truth.services, s.service_id(), s, out.service_ids);
  for (const auto& n : feed.ingress_nodes()) {
    put(truth.ingress_nodes, n.node_id(), n, out.ingress_node_ids);
  }
  drop(truth.endpoints, feed.removed_task_ids(), out.task_ids);
  drop(truth.services, feed.removed_service_ids(), out.service_ids);
  drop(truth.ingress_nodes, feed.removed_ingress_node_ids(), out.ingress_node_ids);
  return out;
}

void NetworkTruths::forget(std::string_view network_id) {
  const auto at = networks_.find(network_id);
  if (at != networks_.end()) networks_.erase(at);
}

const NetworkTruth* NetworkTruths::find(std::string_view network_id) const {
  const auto at = networks_.find(network_id);
  return at == networks_.end() ? nullptr : &at->second;
}

}  // namespace muster::overlay
