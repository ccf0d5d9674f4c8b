#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "agent/session/feed_assembler.h"
#include "agent/session/link.h"
#include "agent/session/manager_list.h"
#include "agent/session/report_queue.h"
#include "base/executor.h"
#include "base/log.h"
#include "base/rng.h"

namespace muster::agent {

// What the session hands its feeds to. On the agent's strand.
class FeedSink {
 public:
  virtual ~FeedSink() = default;
  // A whole step of a feed. One of secrets is acknowledged when the call returns, all others when
  // Session::applied() says that they are in force.
  virtual void apply(const v1::FeedUpdate& step) = 0;
  // This node was removed from the swarm; nothing will come any more.
  virtual void node_removed(const std::string& why) = 0;
  // The node's certificate is not the one it should have: its role is another one, or it is
  // refused. The session goes on trying.
  virtual void certificate_outdated(const std::string& /*why*/) {}
  // Another agent goes by this node's identity and has the session: a copy of this host's state, or
  // what this one is a copy of. Empty when there is a session again.
  virtual void identity_shared(const std::string& /*why*/) {}
  // For a while there has been no session: with whom it was tried last, and what came of that. Said
  // with every attempt; empty when there is one again.
  virtual void no_session(const std::string& /*why*/) {}
  // The managers there are, for the next start of this node.
  virtual void managers_known(const std::vector<std::string>& /*addresses*/) {}
  // The manager wants log lines, or no longer. Answered on streams of their own; what belongs to
  // this session is all that came before.
  virtual void logs_wanted(const v1::LogSubscription&) {}
  virtual void logs_unwanted(const std::string& /*subscription_id*/) {}
  // The manager wants this node's networks examined; answered by tell_findings().
  virtual void examination_wanted(const v1::NetworkExamination&) {}
};

struct SessionDeps {
  Executor& strand;
  LinkFactory& links;
  FeedSink& sink;
  Rng& rng;
  Log log;
};

// The agent's session with a manager, kept open from start() to stop(): with any of those it knows,
// since each can serve it. It learns of managers from managers, moves to another one within a
// second when its own is gone, and waits with what it has to say while none is there. Lives on the
// agent's strand.
class Session {
 public:
  static constexpr uint32_t kFeatureLevel = 1;
  static constexpr Duration kAloneAfter = 10s;
  static constexpr Duration kGoodbyeMax = 1s;

  // `managers`: those known from before, "host:port"; at least one.
  Session(SessionDeps deps, v1::NodeDescription description,
          const std::vector<std::string>& managers);
  ~Session();

  void start();
  // Says goodbye and closes; `done` runs when the goodbye has left, or after kGoodbyeMax at most.
  // Whose session has ended less than that ago says it to the manager that comes next.
  void stop(v1::Goodbye::Reason reason, UniqueFunction<void()> done);

  // A task's observed state; kept and repeated until the manager has it.
  void report(v1::TaskStatusUpdate update);
  // A NETWORK feed is in force up to this version, in this session or one before it.
  void applied(const v1::FeedId& feed, uint64_t version);
  // The feed is in force no more.
  void forgotten(const v1::FeedId& feed);
  // Of an examination; dropped when there is no session, as whoever asked knows by then.
  void tell_findings(const v1::NetworkFindings& findings);
  // The host changed (labels, resources).
  void describe(v1::NodeDescription description);
  bool established() const { return established_; }
  // Opens the session anew, with the certificate that is in force now.
  void renew();
  // The manager it is with or was with last.
  const std::string& manager() const { return manager_; }

 private:
  void connect();
  void received(v1::ManagerMessage message);
  void closed(const Status& why);
  void say_goodbye();
  void end_stop();
  void welcome(const v1::SessionWelcome& welcome);
  void feed(v1::FeedUpdate part);
  void ended(const v1::SessionEnd& end);
  void learn(const google::protobuf::RepeatedPtrField<std::string>& addresses);
  // The manager failed; on with the next. `jitter`: of thousands of sessions that end together.
  void restart(const Status& why, Duration jitter = Duration(0));
  // Nothing is heard or sent any more; what to do next is the caller's.
  void lost(const Status& why);
  // To whom the manager that ends the session names, the leader first.
  void move(const v1::SessionEnd& end, Duration wait);
  void retry(Duration wait_min);
  // For the answer to a hello.
  Duration patience() const;
  Duration some_of(Duration most);
  void beat();
  void send_reports();
  void acknowledge(const std::string& feed_name);

  SessionDeps deps_;
  v1::NodeDescription description_;
  bool description_told_ = true;  // to this manager, in the hello or since
  bool running_ = false;
  bool established_ = false;
  std::unique_ptr<ManagerLink> link_;
  // A link that reported its end is destroyed later, not inside its own callback.
  uint64_t generation_ = 0;
  std::string session_id_;
  FeedAssembler assembler_;
  ReportQueue reports_;
  std::map<std::string, v1::FeedAck> applied_;  // by feed's name
  // Of these, feeds that were carried out while the hello was under way, which has not got that.
  std::set<std::string> unsaid_;
  Duration heartbeat_period_ = 1s;
  uint64_t heartbeat_sequence_ = 0;
  uint64_t heartbeat_answered_ = 0;
  ManagerList managers_;
  std::string manager_;
  std::string named_;  // the leader, as the last manager said that declined
  // What the log says already, since a session worked: with whom there was none, in which way.
  std::set<std::pair<std::string, StatusCode>> said_;
  TimePoint alone_since_;
  bool told_alone_ = false;
  bool told_shared_ = false;
  Executor::TimerId beat_timer_ = 0;
  Executor::TimerId retry_timer_ = 0;
  Executor::TimerId stop_timer_ = 0;
  UniqueFunction<void()> stopped_;
  std::optional<v1::Goodbye::Reason> farewell_;  // what is still to be said

  // A manager that accepts the stream and says nothing is as good as none; one that had to be asked
  // again gets more time, since it may be busy with thousands of others, and each hello that is
  // given up has cost it a handshake for nothing.
  static constexpr Duration kHelloMin = 1s;
  static constexpr Duration kHelloAlone = 5s;  // where there is no other one to go to
  static constexpr Duration kHelloMax = 20s;
  static constexpr Duration kMoveJitter = 300ms;
  // Two with one identity would take the session from each other as fast as they can; one that the
  // managers do not let in while the other lives should not often be there when that one restarts.
  static constexpr Duration kReplacedWait = 10s;
  static constexpr Duration kRefusedWait = 30s;
  // A manager that leaves this many heartbeats unanswered is gone.
  static constexpr uint64_t kUnansweredMax = 5;
};

}  // namespace muster::agent
