#include "manager/dispatcher/session.h"

#include <algorithm>
#include <utility>

#include "manager/ca/address.h"
#include "overlay/ipam/mtu.h"

namespace muster::manager::dispatcher {
namespace {

constexpr uint32_t kDataPathPort = 4789;  // IANA's for VXLAN

std::string feed_key(const v1::FeedId& feed) {
  return std::to_string(feed.kind()) + "/" + feed.network_id();
}

}  // namespace

Dispatcher::SessionImpl::SessionImpl(Dispatcher& dispatcher, std::weak_ptr<int> dispatcher_alive,
                                     std::string node_id, std::string peer_address,
                                     std::shared_ptr<AgentConnection> connection, bool manager)
    : dispatcher_(dispatcher),
      dispatcher_alive_(std::move(dispatcher_alive)),
      node_id_(std::move(node_id)),
      peer_address_(std::move(peer_address)),
      connection_(std::move(connection)),
      manager_(manager) {}

void Dispatcher::SessionImpl::received(const v1::AgentMessage& message) {
  if (!open_ || dispatcher_alive_.expired()) return;
  if (id_.empty() && !message.has_hello() && !waiting_) {
    return end(v1::SessionEnd::PROTOCOL, "the first message of a session must be a hello");
  }
  if (waiting_ && !message.has_hello()) return;  // it has no say yet
  switch (message.message_case()) {
    case v1::AgentMessage::kHello: return hello(message.hello());
    case v1::AgentMessage::kHeartbeat: return heartbeat(message.heartbeat());
    case v1::AgentMessage::kStatuses:
      dispatcher_.statuses_.add(id_, node_id_, message.statuses());
      return;
    case v1::AgentMessage::kAck: return acknowledged(message.ack());
    case v1::AgentMessage::kGoodbye: return goodbye(message.goodbye());
    case v1::AgentMessage::kDescription: return announce(message.description());
    case v1::AgentMessage::kFindings:
      if (dispatcher_.finding_events_.found) {
        dispatcher_.finding_events_.found(node_id_, message.findings());
      }
      return;
    case v1::AgentMessage::MESSAGE_NOT_SET: return;  // of a newer agent; nothing we need
  }
}

void Dispatcher::SessionImpl::hello(const v1::SessionHello& hello) {
  if (!id_.empty() || waiting_)
    return end(v1::SessionEnd::PROTOCOL, "a second hello in one session");
  if (!dispatcher_.leading_) {
    return end(v1::SessionEnd::NOT_LEADER, "this manager does not lead the swarm");
  }
  const store::Snapshot view = dispatcher_.deps_.store.snapshot();
  if (!view.get<v1::Node>(node_id_)) {
    return end(v1::SessionEnd::NODE_REMOVED, "this node is not part of the swarm any more");
  }
  const auto cluster = view.cluster();
  if (cluster && hello.feature_level() < cluster->feature_level()) {
    return end(v1::SessionEnd::FEATURE_LEVEL,
               fmt::format("this cluster needs feature level {}, the agent knows {}: upgrade it",
                           cluster->feature_level(), hello.feature_level()));
  }
  hostname_ = hello.description().hostname();
  claim_.claim = {hello.session_id(), dispatcher_.at_home(node_id_, peer_address_),
                  hello.attempt()};
  switch (dispatcher_.judge(*this)) {
    case ClaimVerdict::kTake: return begin(hello, view);
    case ClaimVerdict::kOld: return end(v1::SessionEnd::REPLACED, kNewerSession);
    case ClaimVerdict::kWait: break;
  }
  waiting_ = hello;
  dispatcher_.claim_later(shared_from_this());
}

void Dispatcher::SessionImpl::claim_again() {
  if (!open_ || !waiting_) return;
  const v1::SessionHello waited = *std::exchange(waiting_, std::nullopt);
  hello(waited);
}

std::string Dispatcher::SessionImpl::host() const {
  const std::string address = ca::peer_host(peer_address_);
  return fmt::format("{} at {}", hostname_, address.empty() ? peer_address_ : address);
}

// The node's status says it for a while; a copy of a manager comes but once.
void Dispatcher::SessionImpl::claim_stood(const std::string& message) {
  const bool known = rivalled_at_.has_value();
  rivalled_at_ = claim_.heard_at;
  if (known) return;
  dispatcher_.deps_.log->warn("{}", message);
  dispatcher_.write_node(
      node_id_, [message](v1::Node& node) { node.mutable_status()->set_message(message); });
}

void Dispatcher::SessionImpl::begin(const v1::SessionHello& hello, const store::Snapshot& view) {
  id_ = dispatcher_.deps_.rng.id();
  claim_.session_id = id_;
  claim_.heard_at = dispatcher_.deps_.strand.clock().now();
  dispatcher_.register_session(shared_from_this());
  const LivenessPolicy policy = dispatcher_.policy();
  alive();
  for (const auto& ack : hello.applied()) applied_[feed_key(ack.feed())] = ack.version();

  v1::ManagerMessage welcome;
  welcome.mutable_welcome()->set_session_id(id_);
  welcome.mutable_welcome()->set_node_id(node_id_);
  welcome.mutable_welcome()->set_heartbeat_period_ns(policy.period.count());
  for (auto& addr : dispatcher_.manager_addresses()) {
    welcome.mutable_welcome()->add_manager_addrs(std::move(addr));
  }
  send(serialise(welcome));
  send_cluster(view);
  // Before the tasks that need them; an agent waits for what comes in a later step.
  refresh_payloads(view);
  v1::FeedUpdate tasks = complete_task_feed(view, node_id_, sent_);
  task_version_ = tasks.version();
  send_all(cut_into_parts(std::move(tasks)));
  refresh_networks(view);
  announce(hello.description());
}

// Counts as a sign of life, and as the end of whatever was thought of the node before.
void Dispatcher::SessionImpl::alive() {
  Liveness liveness;
  liveness.heard(dispatcher_.policy(), dispatcher_.deps_.strand.clock().now());
  dispatcher_.watch(node_id_, liveness);
  dispatcher_.orphans_.node_back(node_id_);
}

void Dispatcher::SessionImpl::announce(const v1::NodeDescription& description) {
  const std::string address = ca::peer_host(peer_address_);
  dispatcher_.write_node(node_id_, [description, address](v1::Node& node) {
    *node.mutable_description() = description;
    node.mutable_status()->set_state(v1::NodeStatus::READY);
    node.mutable_status()->clear_message();
    if (!address.empty()) node.mutable_status()->set_address(address);
  });
}

void Dispatcher::SessionImpl::heartbeat(const v1::AgentHeartbeat& heartbeat) {
  const LivenessPolicy policy = dispatcher_.policy();
  const TimePoint now = claim_.heard_at = dispatcher_.deps_.strand.clock().now();
  const auto it = dispatcher_.nodes_.find(node_id_);
  if (it != dispatcher_.nodes_.end()) {
    it->second.liveness.heard(policy, now);
    dispatcher_.watch(node_id_, it->second.liveness);
  }
  dispatcher_.claim_answered(*this);
  if (rivalled_at_ && now - *rivalled_at_ >= kRivalGone) {
    rivalled_at_.reset();
    dispatcher_.write_node(node_id_,
                           [](v1::Node& node) { node.mutable_status()->clear_message(); });
  }
  v1::ManagerMessage reply;
  reply.mutable_heartbeat()->set_sequence(heartbeat.sequence());
  reply.mutable_heartbeat()->set_heartbeat_period_ns(policy.period.count());
  connection_->send_first(serialise(reply));
}

void Dispatcher::SessionImpl::goodbye(const v1::Goodbye& goodbye) {
  orderly_ = true;
  if (goodbye.reason() == v1::Goodbye::LEAVE) {
    dispatcher_.mark_down(node_id_, "the node has left the swarm");
    return;
  }
  const auto it = dispatcher_.nodes_.find(node_id_);
  if (it == dispatcher_.nodes_.end()) return;
  it->second.liveness.restarting(dispatcher_.policy(), dispatcher_.deps_.strand.clock().now());
  dispatcher_.watch(node_id_, it->second.liveness);
}

void Dispatcher::SessionImpl::closed() {
  if (dispatcher_alive_.expired()) return;
  open_ = false;
  dispatcher_.drop_session(*this, orderly_);
}

void Dispatcher::SessionImpl::end(v1::SessionEnd::Reason reason, const std::string& message) {
  if (!open_) return;
  v1::ManagerMessage farewell;
  farewell.mutable_end()->set_reason(reason);
  farewell.mutable_end()->set_message(message);
  for (auto& addr : dispatcher_.better_managers(reason)) {
    farewell.mutable_end()->add_manager_addrs(std::move(addr));
  }
  connection_->send(serialise(farewell));
  connection_->close();
  open_ = false;
  dispatcher_.drop_session(*this, true);
}

uint64_t Dispatcher::SessionImpl::applied_version(const v1::FeedId& feed) const {
  const auto it = applied_.find(feed_key(feed));
  return it == applied_.end() ? 0 : it->second;
}

void Dispatcher::SessionImpl::acknowledge(uint64_t sequence) {
  v1::ManagerMessage message;
  message.mutable_status_ack()->set_sequence(sequence);
  send(serialise(message));
}

void Dispatcher::SessionImpl::acknowledged(const v1::FeedAck& ack) {
  applied_[feed_key(ack.feed())] = ack.version();
  if (ack.feed().kind() == v1::FeedId::NETWORK && networks_.contains(ack.feed().network_id())) {
    dispatcher_.routes_known(*this, ack.feed().network_id());
  }
  if (ack.feed().kind() == v1::FeedId::TASKS) {
    dispatcher_.departures_.acknowledged(node_id_, ack.version());
  }
  if (ack.feed().kind() != v1::FeedId::SECRETS) return;
  payloads_.acknowledged(ack.version());
  send_payloads(dispatcher_.deps_.store.snapshot());
}

void Dispatcher::SessionImpl::refresh_payloads(const store::Snapshot& view) {
  payloads_.refresh(view, node_id_);
  send_payloads(view);
}

void Dispatcher::SessionImpl::send_payloads(const store::Snapshot& view) {
  if (auto step = payloads_.next(view)) send_all(cut_into_parts(*std::move(step)));
}

void Dispatcher::SessionImpl::send(Bytes message) {
  if (!open_) return;
  if (connection_->queued_bytes() + message->size() > kQueueBytesMax) {
    dispatcher_.deps_.log->warn("node {} does not read its session; closed", node_id_);
    return end(v1::SessionEnd::TOO_SLOW, "the agent does not keep up with its session");
  }
  connection_->send(std::move(message));
}

void Dispatcher::SessionImpl::send_all(const std::vector<Bytes>& messages) {
  for (const Bytes& message : messages) send(message);
}

void Dispatcher::SessionImpl::send_task_step(v1::FeedUpdate step, uint64_t version) {
  step.mutable_feed()->set_kind(v1::FeedId::TASKS);
  step.set_base_version(task_version_);
  step.set_version(version);
  task_version_ = version;
  send_all(cut_into_parts(std::move(step)));
}

void Dispatcher::SessionImpl::refresh_networks(const store::Snapshot& view) {
  if (!open_) return;
  const auto taking_part = networks_of_node(view, node_id_);
  const auto before = networks_;
  const bool encrypted = encrypts(view);
  networks_.insert(taking_part.begin(), taking_part.end());
  // Keys are there before the first network that needs them.
  if (!encrypted && encrypts(view)) send_cluster(view);
  if (!open_) return;
  for (const std::string& id : taking_part) {
    if (before.contains(id)) continue;
    dispatcher_.subscribers_[id].insert(node_id_);
    send_all(dispatcher_.networks_.complete(view, id));
    // It does not keep up; what was entered was left again with the session.
    if (!open_) return;
  }
  for (const std::string& id : before) {
    if (taking_part.contains(id)) continue;
    networks_.erase(id);
    dispatcher_.unsubscribe(id, node_id_);
  }
  if (encrypted && !encrypts(view)) send_cluster(view);
  for (const std::string& id : taking_part) {
    if (!before.contains(id)) dispatcher_.routes_known(*this, id);
  }
}

v1::ClusterFeed Dispatcher::SessionImpl::cluster_feed(const store::Snapshot& view,
                                                      const v1::Node& node) {
  v1::ClusterFeed feed;
  feed.mutable_self()->set_id(node_id_);
  feed.mutable_self()->set_role(node.role());
  *feed.mutable_self()->mutable_spec() = node.spec();
  for (auto& addr : dispatcher_.manager_addresses()) feed.add_manager_addrs(std::move(addr));
  feed.set_heartbeat_period_ns(dispatcher_.policy().period.count());
  feed.set_masquerade(dispatcher_.masquerade_.wanted(view));
  const auto cluster = view.cluster();
  if (!cluster) return feed;
  feed.set_data_path_port(cluster->data_path_port() == 0 ? kDataPathPort
                                                         : cluster->data_path_port());
  *feed.mutable_default_log_driver() = cluster->spec().default_log_driver();
  const Dispatcher::Trust& trust = dispatcher_.trust(cluster->root_ca());
  feed.set_trust_root_pem(trust.bundle_pem);
  feed.set_issuer_public_key_der(trust.issuer_key_der);
  feed.set_node_cert_expiry_ns(cluster->spec().node_cert_expiry_ns());
  if (manager_ && node.role() == v1::NodeSpec::MANAGER && cluster->spec().autolock()) {
    feed.set_unlock_key(cluster->unlock_key());
  }
  if (encrypts(view)) {
    *feed.mutable_network_keys() = cluster->network_keys();
    *feed.mutable_encryption() = cluster->spec().encryption();
  }
  return feed;
}

bool Dispatcher::SessionImpl::encrypts(const store::Snapshot& view) const {
  return std::any_of(networks_.begin(), networks_.end(), [&](const std::string& id) {
    const auto network = view.get<v1::Network>(id);
    return network != nullptr && overlay::is_encrypted(network->spec());
  });
}

void Dispatcher::SessionImpl::send_cluster(const store::Snapshot& view) {
  const auto node = view.get<v1::Node>(node_id_);
  if (!node) {
    return end(v1::SessionEnd::NODE_REMOVED, "this node is not part of the swarm any more");
  }
  v1::ManagerMessage message;
  v1::FeedUpdate& step = *message.mutable_feed();
  step.mutable_feed()->set_kind(v1::FeedId::CLUSTER);
  step.set_complete(true);
  step.set_last(true);
  v1::ClusterFeed& feed = *step.mutable_cluster();
  feed = cluster_feed(view, *node);
  std::string bytes = feed.SerializeAsString();
  if (bytes == cluster_bytes_) return;
  cluster_bytes_ = std::move(bytes);
  step.set_base_version(cluster_version_);
  cluster_version_ = view.version();
  step.set_version(cluster_version_);
  send(serialise(message));
}

}  // namespace muster::manager::dispatcher
