#include "manager/logs/log_broker.h"

#include <utility>
#include <variant>
#include <vector>

#include "base/check.h"

namespace muster::manager::logs {
namespace {

bool began(const v1::Task& task) {
  switch (task.status().state()) {
    case v1::TASK_RUNNING:
    case v1::TASK_COMPLETE:
    case v1::TASK_SHUTDOWN:
    case v1::TASK_FAILED:
      return task.status().container().pid() > 0 || task.status().container().has_exit_code();
    default: return false;
  }
}

bool over(const v1::Task& task) {
  return task.status().state() > v1::TASK_RUNNING;
}

}  // namespace

LogBroker::LogBroker(BrokerDeps deps) : deps_(std::move(deps)) {}

LogBroker::~LogBroker() = default;

// ------------------------------------------------------------ the store's strand

void LogBroker::start() {
  MUSTER_CHECK(deps_.store_strand.is_current());
  started_ = true;
  deps_.strand.post([self = shared_from_this()] { self->running_ = true; });
}

void LogBroker::stop() {
  MUSTER_CHECK(deps_.store_strand.is_current());
  started_ = false;
  watch_ = {};
  deps_.strand.post([self = shared_from_this()] {
    self->running_ = false;
    self->watched_ = false;
    while (!self->subscriptions_.empty()) {
      const std::string id = self->subscriptions_.begin()->first;
      self->drop(id, unavailable("this manager does not lead the swarm any more"), true);
    }
  });
}

// The store is watched only while somebody listens.
void LogBroker::watch(bool wanted) {
  if (watched_ == wanted) return;
  watched_ = wanted;
  deps_.store_strand.post([weak = weak_from_this(), wanted] {
    const auto self = weak.lock();
    if (self == nullptr || !self->started_) return;
    self->watch_ = {};
    if (!wanted) return;
    self->watch_ = self->deps_.store.watch([weak](const store::CommitEvent& event) {
      if (const auto alive = weak.lock()) alive->on_commit(event);
    });
    // Whatever was committed before the watch began.
    self->deps_.strand.post([weak] {
      if (const auto alive = weak.lock()) alive->look();
    });
  });
}

void LogBroker::on_commit(const store::CommitEvent& event) {
  if (look_posted_) return;
  for (const store::AnyChange& any : *event.changes) {
    if (!std::holds_alternative<store::Change<v1::Task>>(any) &&
        !std::holds_alternative<store::Change<v1::Node>>(any) &&
        !std::holds_alternative<store::Change<v1::Service>>(any)) {
      continue;
    }
    look_posted_ = true;
    deps_.strand.post([weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->look();
    });
    return;
  }
}

// ------------------------------------------------------------ clients

Result<LogTargets> LogBroker::resolve(const v1::ServiceLogsRequest& request,
                                      const store::Snapshot& view) const {
  LogTargets out;
  for (const std::string& name : request.services()) {
    MUSTER_ASSIGN(const auto service, view.resolve<v1::Service>(name));
    out.service_ids.push_back(service->id());
  }
  for (const std::string& name : request.tasks()) {
    MUSTER_ASSIGN(const auto task, view.resolve<v1::Task>(name));
    out.task_ids.push_back(task->id());
  }
  if (out.service_ids.empty() && out.task_ids.empty()) {
    return fail(invalid_argument("name a service or a task whose logs are wanted"));
  }
  return out;
}

FlowView LogBroker::view_of(const LogTargets& targets, const store::Snapshot& view) const {
  FlowView out;
  out.gone = true;
  const auto add = [&](const store::Ptr<v1::Task>& task) {
    out.gone = false;
    out.tasks.push_back({task->id(), task->node_id(), began(*task), over(*task)});
    return true;
  };
  for (const std::string& id : targets.service_ids) {
    if (view.get<v1::Service>(id) != nullptr) out.gone = false;
    view.tasks_of_service(id, add);
  }
  for (const std::string& id : targets.task_ids) {
    if (const auto task = view.get<v1::Task>(id)) add(task);
  }
  for (const FlowView::Task& task : out.tasks) {
    if (task.node_id.empty() || out.nodes.count(task.node_id) != 0) continue;
    const auto node = view.get<v1::Node>(task.node_id);
    if (node == nullptr) continue;
    FlowView::Node& shown = out.nodes[task.node_id];
    shown.hostname = node->description().hostname();
    shown.down = node->status().state() == v1::NodeStatus::DOWN;
    shown.why = node->status().message();
  }
  return out;
}

void LogBroker::subscribe(const v1::ServiceLogsRequest& request,
                          std::shared_ptr<LogClient> client) {
  MUSTER_CHECK(deps_.strand.is_current());
  if (!running_) return client->end(unavailable("this manager does not lead the swarm"));
  if (subscriptions_.size() >= kSubscriptionsMax) {
    return client->end(resource_exhausted("{} logs are being read already", kSubscriptionsMax));
  }
  const store::Snapshot view = deps_.store.snapshot();
  auto targets = resolve(request, view);
  if (!targets) return client->end(targets.error());
  const std::string id = deps_.rng.id();
  const Clock& clock = deps_.strand.clock();
  auto made = std::make_unique<Subscription>(
      LogFlow(id, request, *std::move(targets), clock.now(), clock.wall_now()));
  Subscription& subscription = *made;
  subscription.client = std::move(client);
  by_client_[subscription.client.get()] = id;
  subscriptions_[id] = std::move(made);
  watch(true);
  subscription.flow.look(view_of(subscription.flow.targets(), view), clock.now());
  pump(subscription);
}

LogBroker::Subscription* LogBroker::find(const std::string& id) {
  const auto found = subscriptions_.find(id);
  return found == subscriptions_.end() ? nullptr : found->second.get();
}

void LogBroker::sent(const LogClient& client) {
  const auto known = by_client_.find(&client);
  if (known == by_client_.end()) return;
  Subscription& subscription = *subscriptions_.at(known->second);
  subscription.client_ready = true;
  pump(subscription);
}

void LogBroker::gone(const LogClient& client) {
  const auto known = by_client_.find(&client);
  if (known != by_client_.end()) drop(std::string(known->second), ok_status(), false);
}

void LogBroker::drop(const std::string& id, const Status& status, bool tell_client) {
  auto taken = subscriptions_.extract(id);
  if (taken.empty()) return;
  Subscription& subscription = *taken.mapped();
  deps_.strand.cancel(subscription.timer);
  by_client_.erase(subscription.client.get());
  if (tell_client) subscription.client->end(status);
  for (const std::string& node_id : subscription.flow.asked_nodes()) {
    v1::ManagerMessage message;
    message.mutable_cancel_logs()->set_id(id);
    deps_.agents.send(node_id, message);
  }
  for (auto& [node_id, feed] : subscription.feeds) {
    by_feeder_.erase(feed.feeder.get());
    feed.feeder->end(ok_status());
  }
  if (subscriptions_.empty() && running_) watch(false);
}

// ------------------------------------------------------------ nodes

void LogBroker::opened(const std::string& node_id, const std::string& subscription_id,
                       std::shared_ptr<LogFeeder> feeder) {
  MUSTER_CHECK(deps_.strand.is_current());
  Subscription* subscription = find(subscription_id);
  const TimePoint now = deps_.strand.clock().now();
  if (subscription == nullptr || !subscription->flow.opened(node_id, now)) {
    return feeder->end(Status(StatusCode::kCancelled, "nobody waits for these lines any more"));
  }
  Feed& feed = subscription->feeds[node_id];
  if (feed.feeder != nullptr) {
    by_feeder_.erase(feed.feeder.get());
    feed.feeder->end(Status(StatusCode::kCancelled, "a newer stream of this node has begun"));
  }
  by_feeder_[feeder.get()] = {subscription_id, node_id};
  // The message that said so is on its way to received(); before that no other is let through.
  feed = {std::move(feeder), true};
  pump(*subscription);
}

void LogBroker::received(const LogFeeder& feeder, v1::LogPublish message) {
  const auto known = by_feeder_.find(&feeder);
  if (known == by_feeder_.end()) return;
  const Place place = known->second;
  Subscription& subscription = *subscriptions_.at(place.first);
  Feed& feed = subscription.feeds.at(place.second);
  feed.reading = false;
  const bool end = message.end();
  subscription.flow.received(place.second, std::move(message), deps_.strand.clock().now());
  if (end) {
    by_feeder_.erase(&feeder);
    const std::shared_ptr<LogFeeder> done = feed.feeder;
    subscription.feeds.erase(place.second);
    done->end(ok_status());
  }
  pump(subscription);
}

void LogBroker::closed(const LogFeeder& feeder) {
  const auto known = by_feeder_.find(&feeder);
  if (known == by_feeder_.end()) return;
  const Place place = known->second;
  by_feeder_.erase(known);
  Subscription& subscription = *subscriptions_.at(place.first);
  subscription.feeds.erase(place.second);
  subscription.flow.closed(place.second, deps_.strand.clock().now());
  pump(subscription);
}

void LogBroker::look() {
  look_posted_ = false;
  if (!running_ || subscriptions_.empty()) return;
  const store::Snapshot view = deps_.store.snapshot();
  std::vector<std::string> ids;
  for (const auto& [id, subscription] : subscriptions_) ids.push_back(id);
  for (const std::string& id : ids) {
    Subscription* subscription = find(id);
    if (subscription == nullptr) continue;
    subscription->flow.look(view_of(subscription->flow.targets(), view),
                            deps_.strand.clock().now());
    pump(*subscription);
  }
}

void LogBroker::pump(Subscription& subscription) {
  LogFlow& flow = subscription.flow;
  const TimePoint now = deps_.strand.clock().now();
  flow.tick(now);
  if (subscription.client_ready) {
    v1::ServiceLogsResponse message = flow.take(now, kMessageBytes);
    if (message.lines_size() > 0 || message.missing_size() > 0 || message.tasks_size() > 0) {
      subscription.client_ready = false;
      subscription.client->send(std::move(message));
    }
  }
  for (const LogFlow::Ask& ask : flow.take_asks()) {
    v1::ManagerMessage message;
    *message.mutable_logs() = ask.subscription;
    deps_.agents.send(ask.node_id, message);
  }
  for (const std::string& node_id : flow.take_cancels()) {
    v1::ManagerMessage message;
    message.mutable_cancel_logs()->set_id(flow.id());
    deps_.agents.send(node_id, message);
    const auto feed = subscription.feeds.find(node_id);
    if (feed == subscription.feeds.end()) continue;
    by_feeder_.erase(feed->second.feeder.get());
    feed->second.feeder->end(Status(StatusCode::kCancelled, "the node counts as lost"));
    subscription.feeds.erase(feed);
  }
  if (flow.finished() && subscription.client_ready) {
    return drop(std::string(flow.id()), ok_status(), true);
  }
  for (auto& [node_id, feed] : subscription.feeds) {
    if (feed.reading || !flow.wants_more(node_id)) continue;
    feed.reading = true;
    feed.feeder->read();
  }
  deps_.strand.cancel(std::exchange(subscription.timer, 0));
  if (const auto at = flow.wake_at(subscription.client_ready)) {
    subscription.timer = deps_.strand.after(*at - now, [weak = weak_from_this(), id = flow.id()] {
      const auto self = weak.lock();
      Subscription* due = self == nullptr ? nullptr : self->find(id);
      if (due == nullptr) return;
      due->timer = 0;
      self->pump(*due);
    });
  }
}

}  // namespace muster::manager::logs
