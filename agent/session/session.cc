#include "agent/session/session.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace muster::agent {

Session::Session(SessionDeps deps, v1::NodeDescription description,
                 const std::vector<std::string>& managers)
    : deps_(std::move(deps)),
      description_(std::move(description)),
      managers_(managers, deps_.rng) {}

Session::~Session() {
  deps_.strand.cancel(beat_timer_);
  deps_.strand.cancel(retry_timer_);
  deps_.strand.cancel(stop_timer_);
}

void Session::start() {
  MUSTER_CHECK(deps_.strand.is_current());
  MUSTER_CHECK(managers_.size() > 0);
  running_ = true;
  alone_since_ = deps_.strand.clock().now();
  connect();
}

void Session::stop(v1::Goodbye::Reason reason, UniqueFunction<void()> done) {
  MUSTER_CHECK(deps_.strand.is_current());
  const TimePoint now = deps_.strand.clock().now();
  // Its leader went, with this very daemon perhaps: the next one waits for this node until it hears
  // that nobody comes.
  const bool between = running_ && managers_.size() > 1 && now - alone_since_ < kGoodbyeMax;
  running_ = false;
  if (!established_ && !between) {
    deps_.strand.cancel(beat_timer_);
    deps_.strand.cancel(retry_timer_);
    link_.reset();
    return done();
  }
  stopped_ = std::move(done);
  farewell_ = reason;
  stop_timer_ = deps_.strand.after(kGoodbyeMax, [this] {
    link_.reset();
    end_stop();
  });
  if (established_) return say_goodbye();
  if (retry_timer_ == 0) return;  // a hello is under way
  deps_.strand.cancel(retry_timer_);
  link_.reset();
  connect();
}

void Session::say_goodbye() {
  deps_.strand.cancel(beat_timer_);
  deps_.strand.cancel(retry_timer_);
  v1::AgentMessage message;
  message.mutable_goodbye()->set_reason(*std::exchange(farewell_, std::nullopt));
  link_->send(message);
  link_->close_after_writes();
  established_ = false;
}

void Session::end_stop() {
  deps_.strand.cancel(beat_timer_);
  deps_.strand.cancel(retry_timer_);
  deps_.strand.cancel(stop_timer_);
  farewell_.reset();
  if (stopped_) std::exchange(stopped_, nullptr)();
}

void Session::connect() {
  retry_timer_ = 0;
  manager_ = managers_.next(deps_.strand.clock().now())->address;
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
  link_ = deps_.links.open(manager_, std::move(events));
  v1::AgentMessage message;
  v1::SessionHello& hello = *message.mutable_hello();
  *hello.mutable_description() = description_;
  description_told_ = true;
  hello.set_session_id(session_id_);
  hello.set_feature_level(kFeatureLevel);
  hello.set_attempt(generation);
  for (const auto& [name, ack] : applied_) *hello.add_applied() = ack;
  unsaid_.clear();
  link_->send(message);
  beat_timer_ = deps_.strand.after(patience(), [this] {
    restart(Status(StatusCode::kDeadlineExceeded, "the manager did not answer the hello"));
  });
}

Duration Session::patience() const {
  // Whoever is silent must not keep the node from those that answer, which may lead by now.
  if (manager_ != named_ && managers_.others_answer(manager_)) return kHelloMin;
  const Duration first = managers_.size() == 1 ? kHelloAlone : kHelloMin;
  return std::min(first * (1 << std::min(managers_.failures(manager_), 5)), kHelloMax);
}

void Session::received(v1::ManagerMessage message) {
  if (stopped_ && !farewell_) return;  // it said goodbye
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
    case v1::ManagerMessage::kEnd: return ended(message.end());
    case v1::ManagerMessage::kLogs: return deps_.sink.logs_wanted(message.logs());
    case v1::ManagerMessage::kCancelLogs:
      return deps_.sink.logs_unwanted(message.cancel_logs().id());
    case v1::ManagerMessage::kExamination:
      return deps_.sink.examination_wanted(message.examination());
    case v1::ManagerMessage::MESSAGE_NOT_SET: return;  // of a newer manager
  }
}

void Session::ended(const v1::SessionEnd& end) {
  const Status why = unavailable("{}", end.message());
  const bool elsewhere =
      end.reason() == v1::SessionEnd::NOT_LEADER || end.reason() == v1::SessionEnd::SHUTTING_DOWN;
  if (farewell_ && !elsewhere) return end_stop();  // nobody waits for it
  switch (end.reason()) {
    case v1::SessionEnd::NODE_REMOVED:
      running_ = false;
      restart(why);
      return deps_.sink.node_removed(end.message());
    case v1::SessionEnd::NOT_LEADER: {
      // All sessions of a leader that was end at once; a hello is refused to one alone.
      const Duration wait = established_ ? some_of(kMoveJitter) : Duration(0);
      lost(why);
      managers_.declined(manager_, deps_.strand.clock().now(), deps_.rng);
      return move(end, wait);
    }
    case v1::SessionEnd::ROLE_CHANGED:
      restart(why);
      return deps_.sink.certificate_outdated(end.message());
    case v1::SessionEnd::REPLACED: {
      const Duration wait = established_ ? kReplacedWait : kRefusedWait;
      deps_.log->error("the managers do not take this host for the node it says it is: {}",
                       end.message());
      restart(why);
      session_id_.clear();  // it was another's
      told_shared_ = true;
      retry(wait);
      return deps_.sink.identity_shared(end.message());
    }
    case v1::SessionEnd::SHUTTING_DOWN:
      lost(why);
      managers_.failed(manager_, deps_.strand.clock().now(), deps_.rng);
      return move(end, some_of(kMoveJitter));
    default: return restart(why);
  }
}

void Session::move(const v1::SessionEnd& end, Duration wait) {
  const std::vector<std::string> better(end.manager_addrs().begin(), end.manager_addrs().end());
  named_ = better.empty() ? std::string() : better.front();
  if (managers_.prefer(better)) deps_.sink.managers_known(managers_.addresses());
  retry(wait);
}

void Session::learn(const google::protobuf::RepeatedPtrField<std::string>& addresses) {
  if (addresses.empty()) return;
  if (managers_.replace({addresses.begin(), addresses.end()}, manager_, deps_.rng)) {
    deps_.sink.managers_known(managers_.addresses());
  }
}

void Session::renew() {
  MUSTER_CHECK(deps_.strand.is_current());
  if (!running_) return;
  restart(unavailable("the node has a new certificate"));
  managers_.succeeded(manager_);  // it did nothing wrong
  retry(Duration(0));
}

void Session::welcome(const v1::SessionWelcome& welcome) {
  session_id_ = welcome.session_id();
  established_ = true;
  named_.clear();
  said_.clear();
  if (std::exchange(told_alone_, false)) deps_.sink.no_session({});
  if (std::exchange(told_shared_, false)) deps_.sink.identity_shared({});
  managers_.succeeded(manager_);
  if (farewell_) return say_goodbye();
  learn(welcome.manager_addrs());
  if (welcome.heartbeat_period_ns() > 0) {
    heartbeat_period_ = Duration(welcome.heartbeat_period_ns());
  }
  heartbeat_sequence_ = heartbeat_answered_ = 0;
  deps_.strand.cancel(beat_timer_);
  beat_timer_ = deps_.strand.after(heartbeat_period_, [this] { beat(); });
  deps_.log->info("session {} with {} established", session_id_, manager_);
  if (!description_told_) describe(std::move(description_));
  for (const std::string& name : std::exchange(unsaid_, {})) acknowledge(name);
  send_reports();
}

void Session::feed(v1::FeedUpdate part) {
  auto step = assembler_.add(std::move(part));
  if (!step) return restart(step.error());
  if (!*step) return;
  const v1::FeedUpdate& whole = **step;
  for (const auto& id : whole.removed_task_ids()) reports_.forget(id);
  if (whole.has_cluster()) learn(whole.cluster().manager_addrs());
  deps_.sink.apply(whole);
  if (link_ == nullptr) return;  // the sink stopped the session
  const auto kind = whole.feed().kind();
  if (kind == v1::FeedId::SECRETS) applied(whole.feed(), whole.version());
}

void Session::applied(const v1::FeedId& feed, uint64_t version) {
  MUSTER_CHECK(deps_.strand.is_current());
  const std::string name = feed_name(feed);
  v1::FeedAck& ack = applied_[name];
  *ack.mutable_feed() = feed;
  ack.set_version(version);
  if (established_) {
    acknowledge(name);
  } else {
    unsaid_.insert(name);
  }
}

void Session::acknowledge(const std::string& feed_name) {
  const auto ack = applied_.find(feed_name);
  if (ack == applied_.end()) return;  // forgotten meanwhile
  v1::AgentMessage message;
  *message.mutable_ack() = ack->second;
  link_->send(message);
}

void Session::forgotten(const v1::FeedId& feed) {
  MUSTER_CHECK(deps_.strand.is_current());
  applied_.erase(feed_name(feed));
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
  // A hello that is under way has the former one.
  description_told_ = established_;
  if (!established_) return;
  v1::AgentMessage message;
  *message.mutable_description() = description_;
  link_->send(message);
}

void Session::tell_findings(const v1::NetworkFindings& findings) {
  MUSTER_CHECK(deps_.strand.is_current());
  if (!established_) return;
  v1::AgentMessage message;
  *message.mutable_findings() = findings;
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
  if (stopped_ && !farewell_) return end_stop();
  // Everybody whose manager went comes at once.
  restart(why, established_ && managers_.size() > 1 ? kMoveJitter : Duration(0));
  if (why.code() == StatusCode::kUnauthenticated || why.code() == StatusCode::kPermissionDenied) {
    deps_.sink.certificate_outdated(why.message());
  }
}

void Session::restart(const Status& why, Duration jitter) {
  lost(why);
  managers_.failed(manager_, deps_.strand.clock().now(), deps_.rng);
  retry(some_of(jitter));
}

void Session::lost(const Status& why) {
  const TimePoint now = deps_.strand.clock().now();
  if (established_) {
    alone_since_ = now;
    deps_.log->warn("session with {} lost: {}", manager_, why.message());
  } else if (said_.emplace(manager_, why.code()).second) {
    deps_.log->info("no session with {}: {}", manager_, why.message());
  } else {
    deps_.log->debug("no session with {}: {}", manager_, why.message());
  }
  if (running_ && now - alone_since_ >= kAloneAfter) {
    told_alone_ = true;
    deps_.sink.no_session(fmt::format("{}: {}", manager_, why.message()));
  }
  established_ = false;
  ++generation_;  // nothing the old link still says is heard
  deps_.strand.cancel(beat_timer_);
  deps_.strand.cancel(retry_timer_);
}

Duration Session::some_of(Duration most) {
  if (most <= Duration(0)) return Duration(0);
  return Duration(static_cast<int64_t>(deps_.rng.below(static_cast<uint64_t>(most.count()))));
}

void Session::retry(Duration wait_min) {
  deps_.strand.cancel(retry_timer_);
  if (!running_ && !farewell_) return;
  const TimePoint now = deps_.strand.clock().now();
  const Duration wait = std::max(managers_.next(now)->not_before - now, wait_min);
  retry_timer_ = deps_.strand.after(wait, [this] {
    link_.reset();
    connect();
  });
}

}  // namespace muster::agent
