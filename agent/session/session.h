#pragma once

#include <memory>
#include <string>

#include "agent/session/feed_assembler.h"
#include "agent/session/link.h"
#include "agent/session/report_queue.h"
#include "base/executor.h"
#include "base/log.h"
#include "base/rng.h"

namespace muster::agent {

// What the session hands its feeds to. On the agent's strand.
class FeedSink {
 public:
  virtual ~FeedSink() = default;
  // A whole step of a feed. It is acknowledged when the call returns.
  virtual void apply(const v1::FeedUpdate& step) = 0;
  // This node was removed from the swarm; nothing will come any more.
  virtual void node_removed(const std::string& why) = 0;
  // The manager wants log lines, or no longer. Answered on streams of their own; what belongs to
  // this session is all that came before.
  virtual void logs_wanted(const v1::LogSubscription&) {}
  virtual void logs_unwanted(const std::string& /*subscription_id*/) {}
};

struct SessionDeps {
  Executor& strand;
  LinkFactory& links;
  FeedSink& sink;
  Rng& rng;
  Log log;
};

// The agent's session with a manager, kept open from start() to stop(). Lives on the agent's
// strand.
class Session {
 public:
  static constexpr uint32_t kFeatureLevel = 1;

  Session(SessionDeps deps, v1::NodeDescription description);
  ~Session();

  void start();
  // Says goodbye and closes; `done` runs when the goodbye has left, or after a second at most.
  void stop(v1::Goodbye::Reason reason, UniqueFunction<void()> done);

  // A task's observed state; kept and repeated until the manager has it.
  void report(v1::TaskStatusUpdate update);
  // The host changed (labels, resources).
  void describe(v1::NodeDescription description);
  bool established() const { return established_; }

 private:
  void connect();
  void received(v1::ManagerMessage message);
  void closed(const Status& why);
  void welcome(const v1::SessionWelcome& welcome);
  void feed(v1::FeedUpdate part);
  void restart(const Status& why);
  void retry();
  void beat();
  void send_reports();

  SessionDeps deps_;
  v1::NodeDescription description_;
  bool running_ = false;
  bool established_ = false;
  std::unique_ptr<ManagerLink> link_;
  // A link that reported its end is destroyed later, not inside its own callback.
  uint64_t generation_ = 0;
  std::string session_id_;
  FeedAssembler assembler_;
  ReportQueue reports_;
  std::map<std::string, v1::FeedAck> applied_;
  Duration heartbeat_period_ = 1s;
  uint64_t heartbeat_sequence_ = 0;
  uint64_t heartbeat_answered_ = 0;
  Duration backoff_ = kBackoffMin;
  Executor::TimerId beat_timer_ = 0;
  Executor::TimerId retry_timer_ = 0;
  Executor::TimerId stop_timer_ = 0;
  UniqueFunction<void()> stopped_;

  static constexpr Duration kBackoffMin = 50ms;
  static constexpr Duration kBackoffMax = 8s;
  // A manager that leaves this many heartbeats unanswered is gone.
  static constexpr uint64_t kUnansweredMax = 5;
};

}  // namespace muster::agent
