#include "manager/dispatcher/dispatcher.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "manager/ca/address.h"
#include "manager/ca/root.h"
#include "manager/dispatcher/session.h"
#include "manager/members/group_facts.h"

namespace muster::manager::dispatcher {
namespace {

// A heartbeat that comes this soon after another one's hello may have been sent before it, by a
// process that is gone.
constexpr Duration kLateHeartbeat = 200ms;

}  // namespace

Dispatcher::Dispatcher(DispatcherDeps deps, DispatcherOptions options)
    : deps_(std::move(deps)),
      options_(std::move(options)),
      statuses_(
          deps_.strand, deps_.store, options_.manager_id, deps_.log,
          [this](const std::string& node_id, const std::string& session_id, uint64_t sequence) {
            const auto session = find_session(node_id);
            if (session && session->id() == session_id) session->acknowledge(sequence);
          }),
      node_writer_(deps_.strand, deps_.store, deps_.log),
      orphans_(deps_.strand, deps_.store, options_.manager_id, deps_.log),
      departures_(deps_.strand, deps_.store, deps_.log) {
  subscription_ = deps_.store.watch([this](const store::CommitEvent& event) { on_commit(event); });
}

Dispatcher::~Dispatcher() {
  for (auto& [id, node] : nodes_) deps_.strand.cancel(node.timer);
  for (auto& [id, newcomer] : newcomers_) deps_.strand.cancel(newcomer.timer);
}

LivenessPolicy Dispatcher::policy() const {
  LivenessPolicy policy;
  if (const auto cluster = deps_.store.snapshot().cluster()) {
    if (cluster->spec().heartbeat_period_ns() > 0) {
      policy.period = Duration(cluster->spec().heartbeat_period_ns());
    }
    if (cluster->spec().vanished_agent_grace_ns() > 0) {
      policy.vanished_grace = Duration(cluster->spec().vanished_agent_grace_ns());
    }
  }
  return policy;
}

void Dispatcher::start_leading() {
  MUSTER_CHECK(deps_.strand.is_current());
  if (std::exchange(leading_, true)) return;
  statuses_.start();
  departures_.start(deps_.store.snapshot());
  const TimePoint now = deps_.strand.clock().now();
  deps_.store.snapshot().each<v1::Node>([&](const store::Ptr<v1::Node>& node) {
    if (node->status().state() == v1::NodeStatus::DOWN) {
      orphans_.node_down(node->id(), {node->meta().updated_at_ns()});
    } else {
      unheard_.insert(node->id());
      watch(node->id(), Liveness::unheard(policy(), now));
      write_node(node->id(), [](v1::Node& n) {
        n.mutable_status()->set_state(v1::NodeStatus::UNKNOWN);
        n.mutable_status()->set_message("Node moved to \"unknown\" state due to leadership change");
      });
    }
    return true;
  });
}

void Dispatcher::stop_leading() {
  if (!std::exchange(leading_, false)) return;
  statuses_.stop();
  node_writer_.clear();
  orphans_.clear();
  departures_.clear();
  unheard_.clear();
  for (auto& [id, node] : nodes_) deps_.strand.cancel(node.timer);
  nodes_.clear();
  end_sessions(v1::SessionEnd::NOT_LEADER, "this manager does not lead the swarm any more");
}

void Dispatcher::end_sessions(v1::SessionEnd::Reason reason, const std::string& message) {
  auto sessions = std::exchange(sessions_, {});
  for (const auto& [node_id, session] : sessions) unsubscribe(*session);
  for (auto& [node_id, session] : sessions) session->end(reason, message);
  auto newcomers = std::exchange(newcomers_, {});
  for (auto& [node_id, newcomer] : newcomers) {
    deps_.strand.cancel(newcomer.timer);
    newcomer.session->end(reason, message);
  }
}

std::vector<std::string> Dispatcher::manager_addresses() const {
  std::vector<std::string> out;
  if (deps_.group) out = members::manager_addresses(deps_.group());
  return out.empty() ? options_.manager_addrs : out;
}

std::vector<std::string> Dispatcher::better_managers(v1::SessionEnd::Reason reason) const {
  const bool elsewhere = reason == v1::SessionEnd::SHUTTING_DOWN;
  if (!deps_.group || (!elsewhere && reason != v1::SessionEnd::NOT_LEADER)) return {};
  const raft::GroupView view = deps_.group();
  if (!elsewhere && (!view.leader || view.leader == view.self)) return {};
  std::vector<std::string> out = members::manager_addresses(view);
  const raft::MemberView* self = view.find(view.self);
  if (self != nullptr) std::erase(out, self->member.address);
  return out;
}

const Dispatcher::Trust& Dispatcher::trust(const v1::RootCa& root) {
  std::string key = root.certificate_pem() + root.rotation().certificate_pem();
  if (key == trust_.root) return trust_;
  trust_ = {std::move(key), {}, {}};
  if (auto bundle = ca::trust_bundle(root)) trust_.bundle_pem = *std::move(bundle);
  if (auto issuer = ca::wanted_issuer(root)) trust_.issuer_key_der = issuer->public_key_der;
  return trust_;
}

std::shared_ptr<Dispatcher::Session> Dispatcher::connect(
    const std::string& node_id, const std::string& peer_address,
    std::shared_ptr<AgentConnection> connection, bool manager) {
  MUSTER_CHECK(deps_.strand.is_current());
  return std::make_shared<SessionImpl>(*this, alive_, node_id, peer_address, std::move(connection),
                                       manager);
}

void Dispatcher::managers_changed() {
  MUSTER_CHECK(deps_.strand.is_current());
  std::vector<std::string> addresses = manager_addresses();
  if (addresses == told_managers_) return;  // the group changes in more than its addresses
  told_managers_ = std::move(addresses);
  const store::Snapshot view = deps_.store.snapshot();
  // A copy: a session that does not keep up ends and takes itself off.
  const auto sessions = sessions_;
  for (const auto& [node_id, session] : sessions) session->send_cluster(view);
}

void Dispatcher::shut_down(const std::string& message) {
  end_sessions(v1::SessionEnd::SHUTTING_DOWN, message);
}

void Dispatcher::send(const std::string& node_id, const v1::ManagerMessage& message) {
  MUSTER_CHECK(deps_.strand.is_current());
  if (const auto session = find_session(node_id)) session->send_message(message);
}

std::set<std::string> Dispatcher::nodes_with_session() const {
  std::set<std::string> out;
  for (const auto& [node_id, session] : sessions_) out.insert(node_id);
  return out;
}

uint64_t Dispatcher::applied_version(const std::string& node_id, const v1::FeedId& feed) const {
  const auto it = sessions_.find(node_id);
  return it == sessions_.end() ? 0 : it->second->applied_version(feed);
}

// What a node without a session takes part in is what its next session would be told.
Routers Dispatcher::routers(const std::string& network_id) const {
  Routers out;
  v1::FeedId feed;
  feed.set_kind(v1::FeedId::NETWORK);
  feed.set_network_id(network_id);
  if (const auto known = subscribers_.find(network_id); known != subscribers_.end()) {
    for (const std::string& node_id : known->second) out[node_id] = applied_version(node_id, feed);
  }
  if (unheard_.empty()) return out;
  const store::Snapshot view = deps_.store.snapshot();
  const auto add = [&](const std::string& node_id) {
    if (view.get<v1::Node>(node_id) != nullptr) out.try_emplace(node_id, 0);
  };
  const auto network = view.get<v1::Network>(network_id);
  if (network != nullptr && network->spec().ingress()) {
    for (const std::string& node_id : unheard_) add(node_id);
    return out;
  }
  view.tasks_of_network(network_id, [&](const store::Ptr<v1::Task>& task) {
    if (is_member(*task) && unheard_.contains(task->node_id())) add(task->node_id());
    return true;
  });
  return out;
}

void Dispatcher::routes_known(const SessionImpl& session, const std::string& network_id) {
  if (!route_events_.routes) return;
  v1::FeedId feed;
  feed.set_kind(v1::FeedId::NETWORK);
  feed.set_network_id(network_id);
  route_events_.routes(session.node_id(), network_id, session.applied_version(feed));
}

void Dispatcher::routes_forgotten(const std::string& node_id) {
  unheard_.erase(node_id);
  if (route_events_.gone) route_events_.gone(node_id);
  if (finding_events_.gone) finding_events_.gone(node_id);
}

void Dispatcher::register_session(const std::shared_ptr<SessionImpl>& session) {
  const std::string node_id = session->node_id();
  routes_forgotten(node_id);
  if (const auto old = sessions_.extract(node_id)) {
    unsubscribe(*old.mapped());
    const std::string& continues = session->claim().claim.continues;
    const bool same = !continues.empty() && (continues == old.mapped()->id() ||
                                             continues == old.mapped()->claim().claim.continues);
    old.mapped()->end(
        v1::SessionEnd::REPLACED,
        same ? kNewerSession : fmt::format("{} takes part as this node now", session->host()));
  }
  sessions_[node_id] = session;
}

bool Dispatcher::at_home(const std::string& node_id, const std::string& peer_address) const {
  if (!deps_.group) return false;
  const std::string host = ca::peer_host(peer_address);
  const raft::GroupView view = deps_.group();
  const raft::MemberView* member = members::member_of(view, node_id);
  if (member == nullptr || host.empty()) return false;
  const std::string& address = member->member.address;
  return ca::peer_host((address.starts_with('[') ? "ipv6:" : "ipv4:") + address) == host;
}

ClaimVerdict Dispatcher::judge(const SessionImpl& newcomer) const {
  const auto standing = sessions_.find(newcomer.node_id());
  if (standing == sessions_.end()) return ClaimVerdict::kTake;
  return judge_claim(standing->second->claim(), newcomer.claim().claim, policy().period,
                     deps_.strand.clock().now());
}

void Dispatcher::claim_later(const std::shared_ptr<SessionImpl>& newcomer) {
  const std::string node_id = newcomer->node_id();
  if (const auto older = newcomers_.extract(node_id)) {
    deps_.strand.cancel(older.mapped().timer);
    if (older.mapped().session != newcomer) {
      older.mapped().session->end(v1::SessionEnd::REPLACED, kNewerSession);
    }
  }
  const TimePoint now = deps_.strand.clock().now();
  const TimePoint end = claim_ends(sessions_[node_id]->claim(), policy().period);
  newcomers_[node_id] = {newcomer, now,
                         deps_.strand.after(end - now, [this, node_id] { claim_again(node_id); })};
}

void Dispatcher::claim_again(const std::string& node_id) {
  const auto waiting = newcomers_.extract(node_id);
  if (!waiting) return;
  deps_.strand.cancel(waiting.mapped().timer);
  waiting.mapped().session->claim_again();
}

void Dispatcher::claim_answered(SessionImpl& standing) {
  const auto waiting = newcomers_.find(standing.node_id());
  if (waiting == newcomers_.end()) return;
  const TimePoint now = deps_.strand.clock().now();
  if (now - waiting->second.since < kLateHeartbeat) return;
  const std::shared_ptr<SessionImpl> other = waiting->second.session;
  deps_.strand.cancel(waiting->second.timer);
  newcomers_.erase(waiting);
  const std::string message = fmt::format(
      "two hosts go by the identity of node {}, one has a copy of the other's state: {} takes part "
      "and goes on, {} is refused",
      standing.node_id(), standing.host(), other->host());
  other->end(v1::SessionEnd::REPLACED, message);
  standing.claim_stood(message);
}

void Dispatcher::drop_session(SessionImpl& session, bool orderly) {
  const auto waiting = newcomers_.find(session.node_id());
  if (waiting != newcomers_.end() && waiting->second.session.get() == &session) {
    deps_.strand.cancel(waiting->second.timer);
    newcomers_.erase(waiting);
    return;
  }
  const auto it = sessions_.find(session.node_id());
  if (it == sessions_.end() || it->second.get() != &session) return;  // replaced already
  const std::shared_ptr<SessionImpl> keep = it->second;
  unsubscribe(*keep);
  sessions_.erase(it);
  const auto node = nodes_.find(session.node_id());
  if (!orderly && node != nodes_.end()) {
    node->second.liveness.disconnected(deps_.strand.clock().now());
  }
  claim_again(session.node_id());
}

void Dispatcher::unsubscribe(const SessionImpl& session) {
  for (const std::string& network_id : session.networks()) {
    unsubscribe(network_id, session.node_id());
  }
  routes_forgotten(session.node_id());
}

void Dispatcher::unsubscribe(const std::string& network_id, const std::string& node_id) {
  const auto it = subscribers_.find(network_id);
  if (it == subscribers_.end()) return;
  if (it->second.erase(node_id) != 0 && route_events_.leaves) {
    route_events_.leaves(node_id, network_id);
  }
  if (!it->second.empty()) return;
  subscribers_.erase(it);
  networks_.forget(network_id);
}

// ------------------------------------------------------------ commits

void Dispatcher::on_commit(const store::CommitEvent& event) {
  if (leading_) departures_.follow(event);
  if (sessions_.empty()) return masquerade_.forget();
  Touched touched;
  bool cluster_changed = masquerade_.follow(event);
  std::set<std::string> changed_nodes;
  for (const store::AnyChange& any : *event.changes) {
    if (const auto* task = std::get_if<store::Change<v1::Task>>(&any)) {
      on_task_change(*task, event, touched);
    } else if (std::holds_alternative<store::Change<v1::Cluster>>(any)) {
      cluster_changed = true;
    } else if (const auto* network = std::get_if<store::Change<v1::Network>>(&any)) {
      // Every node takes part in the ingress network: it is there, or gone.
      const bool same = network->before && network->after;
      if (!same && (network->after ? network->after : network->before)->spec().ingress()) {
        for (const auto& [node_id, session] : sessions_) touched.memberships.insert(node_id);
      }
    } else if (const auto* node = std::get_if<store::Change<v1::Node>>(&any)) {
      changed_nodes.insert(node->after ? node->after->id() : node->before->id());
      on_node_change(*node);
    } else if (const auto* secret = std::get_if<store::Change<v1::Secret>>(&any)) {
      if (!secret->after) on_payload_gone(secret->before->id(), touched);
    } else if (const auto* config = std::get_if<store::Change<v1::Config>>(&any)) {
      if (!config->after) on_payload_gone(config->before->id(), touched);
    }
  }
  for (const std::string& node_id : touched.payloads) {
    if (const auto session = find_session(node_id)) session->refresh_payloads(event.after);
  }
  for (auto& [node_id, step] : touched.steps) {
    if (const auto session = find_session(node_id)) {
      session->send_task_step(std::move(step), event.version);
    }
  }
  for (const auto& [network_id, increment] : networks_.increments(event, subscribers_)) {
    // A copy: a session that does not keep up ends and takes itself off.
    const auto found = subscribers_.find(network_id);
    if (found == subscribers_.end()) continue;
    const auto subscribers = found->second;
    for (const std::string& node_id : subscribers) {
      if (const auto session = find_session(node_id)) session->send_all(increment.messages);
    }
  }
  for (const std::string& node_id : touched.memberships) {
    if (const auto session = find_session(node_id)) session->refresh_networks(event.after);
  }
  if (cluster_changed) {
    for (const auto& [node_id, session] : sessions_) changed_nodes.insert(node_id);
  }
  for (const std::string& node_id : changed_nodes) {
    if (const auto session = find_session(node_id)) session->send_cluster(event.after);
  }
}

void Dispatcher::on_node_change(const store::Change<v1::Node>& change) {
  if (!change.after || (change.before && change.before->role() == change.after->role())) return;
  const auto session = find_session(change.after->id());
  const bool manager = change.after->role() == v1::NodeSpec::MANAGER;
  if (!session || session->manager() == manager) return;
  session->end(v1::SessionEnd::ROLE_CHANGED,
               fmt::format("this node is a {} now: its certificate is to be renewed",
                           manager ? "manager" : "worker"));
}

std::shared_ptr<Dispatcher::SessionImpl> Dispatcher::find_session(const std::string& node_id) {
  const auto it = sessions_.find(node_id);
  return it == sessions_.end() ? nullptr : it->second;
}

void Dispatcher::on_task_change(const store::Change<v1::Task>& change,
                                const store::CommitEvent& event, Touched& touched) {
  const v1::Task& shown = change.after ? *change.after : *change.before;
  const auto session = find_session(shown.node_id());
  if (!session) return;
  const bool was_member = change.before && is_member(*change.before);
  const bool member = change.after && is_member(*change.after);
  // It may enter and leave networks while it runs.
  const bool moved = was_member && member && !same_networks(*change.before, *change.after);
  if (was_member != member || moved) touched.memberships.insert(shown.node_id());
  if (touches_payloads(change, event, *session)) touched.payloads.insert(shown.node_id());
  SentTasks& sent = session->sent_tasks();
  if (!change.after) {
    if (sent.tasks.contains(shown.id())) {
      add_removal(shown.id(), sent, touched.steps[shown.node_id()]);
    }
  } else if (is_assigned(shown) && (!change.before || !sent.tasks.contains(shown.id()) ||
                                    concerns_agent(*change.before, *change.after))) {
    add_task(event.after, shown, sent, touched.steps[shown.node_id()]);
  }
}

bool Dispatcher::touches_payloads(const store::Change<v1::Task>& change,
                                  const store::CommitEvent& event,
                                  const SessionImpl& session) const {
  const bool did = change.before && entitles(*change.before);
  const bool does = change.after && entitles(*change.after);
  if (did == does && !(does && change.before->revision() != change.after->revision())) return false;
  // A node that has none does not lose one.
  if (!does) return !session.payloads().empty();
  return !session.payloads().empty() || refers_to_payloads(event.after, *change.after);
}

void Dispatcher::on_payload_gone(const std::string& id, Touched& touched) const {
  for (const auto& [node_id, session] : sessions_) {
    if (session->payloads().concerns(id)) touched.payloads.insert(node_id);
  }
}

// ------------------------------------------------------------ liveness

void Dispatcher::watch(const std::string& node_id, Liveness liveness) {
  if (!leading_) return;
  NodeWatch& node = nodes_[node_id];
  node.liveness = liveness;
  // The timer is lazy: a heartbeat moves the deadline on, the timer finds out when it fires. Only
  // an earlier deadline needs another timer.
  if (node.timer != 0 && node.timer_due <= node.liveness.deadline()) return;
  deps_.strand.cancel(node.timer);
  node.timer_due = node.liveness.deadline();
  node.timer = deps_.strand.after(node.timer_due - deps_.strand.clock().now(),
                                  [this, node_id] { judge(node_id); });
}

void Dispatcher::judge(const std::string& node_id) {
  const auto it = nodes_.find(node_id);
  if (it == nodes_.end()) return;
  it->second.timer = 0;
  switch (it->second.liveness.judge(deps_.strand.clock().now())) {
    case Liveness::Verdict::kAlive: return watch(node_id, it->second.liveness);
    case Liveness::Verdict::kProbe: return probe(node_id);
    case Liveness::Verdict::kDown:
      return mark_down(node_id, std::string(it->second.liveness.why_down()));
  }
}

void Dispatcher::probe(const std::string& node_id) {
  const auto node = deps_.store.snapshot().get<v1::Node>(node_id);
  if (!node) {
    routes_forgotten(node_id);
    nodes_.erase(node_id);  // last: the name may be of the timer that goes with it
    return;
  }
  const std::weak_ptr<int> alive = alive_;
  deps_.probe.probe(node->status().address(), [this, alive, node_id](ProbeResult result) {
    if (alive.expired()) return;
    const auto it = nodes_.find(node_id);
    if (it == nodes_.end() || it->second.timer != 0) return;
    const TimePoint now = deps_.strand.clock().now();
    if (it->second.liveness.on_probe(policy(), result, now) == Liveness::Verdict::kAlive) {
      return watch(node_id, it->second.liveness);
    }
    mark_down(node_id, std::string(down_message(result)));
  });
}

void Dispatcher::mark_down(const std::string& node_id, std::string message) {
  if (const auto it = nodes_.find(node_id); it != nodes_.end()) {
    deps_.strand.cancel(it->second.timer);
    nodes_.erase(it);
  }
  routes_forgotten(node_id);
  if (const auto session = sessions_.extract(node_id)) {
    unsubscribe(*session.mapped());
    session.mapped()->end(v1::SessionEnd::UNSPECIFIED, message);
  }
  deps_.log->warn("node {} is down: {}", node_id, message);
  write_node(node_id, [message = std::move(message)](v1::Node& node) {
    node.mutable_status()->set_state(v1::NodeStatus::DOWN);
    node.mutable_status()->set_message(message);
  });
  if (leading_) orphans_.node_down(node_id, deps_.strand.clock().wall_now());
}

void Dispatcher::write_node(const std::string& node_id, NodeWriter::Change change) {
  if (leading_) node_writer_.set(node_id, std::move(change));
}

}  // namespace muster::manager::dispatcher
