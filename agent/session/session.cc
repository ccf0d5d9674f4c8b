#include "agent/session/session.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace muster::agent {

Session::Session(SessionDeps deps, v1::NodeDescription description)
    : deps_(std::move(deps)), description_(std::move(description)) {}

Session::~Session() {
  deps_.strand.cancel(beat_timer_);
  deps_.strand.cancel(retry_timer_);
  deps_.strand.cancel(stop_timer_);
}

void Session::start() {
  MUSTER_CHECK(deps_.strand.is_current());
  running_ = true;
  connect();
}

void Session::stop(v1::Goodbye::Reason reason, UniqueFunction<void()> done) {
  MUSTER_CHECK(deps_.strand.is_current());
  running_ = false;
  deps_.strand.cancel(beat_timer_);
  deps_.strand.cancel(retry_timer_);
  if (!established_) {
    link_.reset();
    done();
    return;
  }
  stopped_ = std::move(done);
  v1::AgentMessage message;
  message.mutable_goodbye()->set_reason(reason);
  link_->send(message);
  link_->close_after_writes();
  stop_timer_ = deps_.strand.after(1s, [this] {
    link_.reset();
    if (stopped_) std::exchange(stopped_, nullptr)();
  });
}

void Session::connect() {
  retry_timer_ = 0;
  const uint64_t generation = ++generation_;
  assembler_ = FeedAssembler();
  reports_.reset();
  LinkEvents events;
  events.received = [this, generation](v1::ManagerMessage message) {
    if (generation == generation_) received(std::move(message));
  };
  events.closed = [this, generation](const Status& why) {
    if (generation == generation_) closed(why);
  };
  link_ = deps_.links.open(std::move(events));
  v1::AgentMessage message;
  v1::SessionHello& hello = *message.mutable_hello();
  *hello.mutable_description() = description_;
  hello.set_session_id(session_id_);
  hello.set_feature_level(kFeatureLevel);
  for (const auto& [name, ack] : applied_) *hello.add_applied() = ack;
  link_->send(message);
  // A manager that accepts the stream and says nothing is as good as none.
  beat_timer_ = deps_.strand.after(5s, [this] {
    restart(Status(StatusCode::kDeadlineExceeded, "the manager did not answer the hello"));
  });
}

void Session::received(v1::ManagerMessage message) {
  switch (message.message_case()) {
    case v1::ManagerMessage::kWelcome: return welcome(message.welcome());
    case v1::ManagerMessage::kHeartbeat:
      heartbeat_answered_ = message.heartbeat().sequence();
      if (message.heartbeat().heartbeat_period_ns() > 0) {
        heartbeat_period_ = Duration(message.heartbeat().heartbeat_period_ns());
      }
      return;
    case v1::ManagerMessage::kStatusAck:
      reports_.acknowledged(message.status_ack().sequence());
      return send_reports();
    case v1::ManagerMessage::kFeed: return feed(std::move(*message.mutable_feed()));
    case v1::ManagerMessage::kEnd:
      if (message.end().reason() == v1::SessionEnd::NODE_REMOVED) {
        running_ = false;
        deps_.log->warn("session ended: {}", message.end().message());
        return deps_.sink.node_removed(message.end().message());
      }
      return restart(unavailable("{}", message.end().message()));
    case v1::ManagerMessage::kLogs: return deps_.sink.logs_wanted(message.logs());
    case v1::ManagerMessage::kCancelLogs:
      return deps_.sink.logs_unwanted(message.cancel_logs().id());
    case v1::ManagerMessage::MESSAGE_NOT_SET: return;  // of a newer manager
  }
}

void Session::welcome(const v1::SessionWelcome& welcome) {
  session_id_ = welcome.session_id();
  established_ = true;
  backoff_ = kBackoffMin;
  if (welcome.heartbeat_period_ns() > 0) {
    heartbeat_period_ = Duration(welcome.heartbeat_period_ns());
  }
  heartbeat_sequence_ = heartbeat_answered_ = 0;
  deps_.strand.cancel(beat_timer_);
  beat_timer_ = deps_.strand.after(heartbeat_period_, [this] { beat(); });
  deps_.log->info("session {} established", session_id_);
  send_reports();
}

void Session::feed(v1::FeedUpdate part) {
  auto step = assembler_.add(std::move(part));
  if (!step) return restart(step.error());
  if (!*step) return;
  const v1::FeedUpdate& whole = **step;
  for (const auto& id : whole.removed_task_ids()) reports_.forget(id);
  deps_.sink.apply(whole);
  if (link_ == nullptr) return;  // the sink stopped the session
  v1::AgentMessage message;
  v1::FeedAck& ack = *message.mutable_ack();
  *ack.mutable_feed() = whole.feed();
  ack.set_version(whole.version());
  applied_.insert_or_assign(feed_name(whole.feed()), ack);
  link_->send(message);
}

void Session::beat() {
  if (heartbeat_sequence_ - heartbeat_answered_ >= kUnansweredMax) {
    return restart(Status(StatusCode::kDeadlineExceeded, "the manager is silent"));
  }
  v1::AgentMessage message;
  message.mutable_heartbeat()->set_sequence(++heartbeat_sequence_);
  link_->send(message);
  beat_timer_ = deps_.strand.after(heartbeat_period_, [this] { beat(); });
}

void Session::report(v1::TaskStatusUpdate update) {
  MUSTER_CHECK(deps_.strand.is_current());
  reports_.add(std::move(update));
  send_reports();
}

void Session::describe(v1::NodeDescription description) {
  description_ = std::move(description);
  if (!established_) return;
  v1::AgentMessage message;
  *message.mutable_description() = description_;
  link_->send(message);
}

void Session::send_reports() {
  if (!established_) return;
  if (auto batch = reports_.next()) {
    v1::AgentMessage message;
    *message.mutable_statuses() = *std::move(batch);
    link_->send(message);
  }
}

void Session::closed(const Status& why) {
  if (stopped_) {
    deps_.strand.cancel(stop_timer_);
    return std::exchange(stopped_, nullptr)();
  }
  restart(why);
}

void Session::restart(const Status& why) {
  if (established_) deps_.log->warn("session lost: {}", why.message());
  established_ = false;
  ++generation_;  // nothing the old link still says is heard
  deps_.strand.cancel(beat_timer_);
  if (!running_) return;
  retry();
}

void Session::retry() {
  // Full jitter keeps thousands of agents from returning in step.
  const auto spread = static_cast<uint64_t>(backoff_.count());
  const Duration wait = backoff_ / 2 + Duration(static_cast<int64_t>(deps_.rng.below(spread) / 2));
  backoff_ = std::min(backoff_ * 2, kBackoffMax);
  retry_timer_ = deps_.strand.after(wait, [this] {
    link_.reset();
    connect();
  });
}

}  // namespace muster::agent
