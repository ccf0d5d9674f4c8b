#include "overlay/dataplane/told/network_truth.h"

#include <google/protobuf/util/message_differencer.h>

#include <utility>

#include "overlay/dataplane/told/keyed_messages.h"

namespace muster::overlay {
namespace {

using google::protobuf::util::MessageDifferencer;

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
    keep_messages(truth.endpoints, tasks, out.task_ids);
    keep_messages(truth.services, services, out.service_ids);
    keep_messages(truth.ingress_nodes, nodes, out.ingress_node_ids);
  }
  if (feed.has_network() && !MessageDifferencer::Equals(truth.network, feed.network())) {
    truth.network = feed.network();
    out.network = true;
  }
  for (const auto& e : feed.endpoints()) put_message(truth.endpoints, e.task_id(), e, out.task_ids);
  for (const auto& s : feed.services())
    put_message(truth.services, s.service_id(), s, out.service_ids);
  for (const auto& n : feed.ingress_nodes()) {
    put_message(truth.ingress_nodes, n.node_id(), n, out.ingress_node_ids);
  }
  drop_messages(truth.endpoints, feed.removed_task_ids(), out.task_ids);
  drop_messages(truth.services, feed.removed_service_ids(), out.service_ids);
  drop_messages(truth.ingress_nodes, feed.removed_ingress_node_ids(), out.ingress_node_ids);
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
