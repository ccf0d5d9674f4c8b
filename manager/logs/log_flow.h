#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/time.h"
#include "manager/logs/line_merge.h"
#include "muster/v1/control.pb.h"
#include "muster/v1/dispatcher.pb.h"
#include "muster/v1/logs.pb.h"

namespace muster::manager::logs {

// What a client wants, with references resolved.
struct LogTargets {
  std::vector<std::string> service_ids;
  std::vector<std::string> task_ids;
};

// The store, as far as one subscription goes.
struct FlowView {
  struct Task {
    std::string id;
    std::string node_id;  // empty: not placed yet
    bool began = false;   // it has a container, so there should be a log
    bool over = false;    // and will never have one from now on
  };
  struct Node {
    std::string hostname;
    bool down = false;
    std::string why;  // it is down
  };
  std::vector<Task> tasks;            // those the targets mean
  std::map<std::string, Node> nodes;  // by id; those of the tasks
  bool gone = false;                  // nothing of the targets exists any more
};

// One client's subscription: which nodes are asked, what they have sent, who has ended, who is
// missing and why. Pure: events and the time in; asks, cancels and answers out.
//
// A node is asked again every kAskPeriod until its stream is there; lines that come twice because
// of that are dropped. One that has not been heard of for kSilenceMax while its lines were wanted
// counts as missing: without `follow` the subscription goes on without it, following it is asked
// again every kSilenceMax.
class LogFlow {
 public:
  static constexpr Duration kSilenceMax = 10s;
  static constexpr Duration kAskPeriod = 1s;
  static constexpr size_t kCollectedMax = 1'000;

  LogFlow(std::string id, v1::ServiceLogsRequest request, LogTargets targets, TimePoint now,
          WallTime wall_now);

  const std::string& id() const { return id_; }
  const LogTargets& targets() const { return targets_; }

  // ---- events

  // The store changed, or may have.
  void look(const FlowView& view, TimePoint now);
  // A node's stream begins; false when it is not wanted.
  bool opened(const std::string& node_id, TimePoint now);
  void received(const std::string& node_id, v1::LogPublish message, TimePoint now);
  // The stream ended; after a message with `end` that is no surprise.
  void closed(const std::string& node_id, TimePoint now);
  // Time has passed: to be called at wake_at().
  void tick(TimePoint now);

  // ---- what follows

  struct Ask {
    std::string node_id;
    v1::LogSubscription subscription;
  };
  std::vector<Ask> take_asks();
  // Nodes whose streams nobody needs any more.
  std::vector<std::string> take_cancels();
  // The next part of the answer; empty when there is none now.
  v1::ServiceLogsResponse take(TimePoint now, size_t bytes_max);
  // Everything that will ever come has been taken.
  bool finished() const;
  // Whether the node's next message is welcome.
  bool wants_more(const std::string& node_id) const;
  // The nodes that may hold a subscription.
  std::vector<std::string> asked_nodes() const;
  // When tick() has something to do although nothing has come, or take(), if it `can_take`.
  std::optional<TimePoint> wake_at(bool can_take) const;

 private:
  enum class State {
    kAsked,  // its stream is to come
    kStreaming,
    kEnded,  // it has sent everything
    kLost,   // missing, and the client was told so
  };
  struct Seen {
    int64_t time_ns = 0;
    uint64_t lines = 0;  // with exactly this time
    uint64_t again = 0;  // of those, how many came once more on the present stream
  };
  struct Node {
    std::string hostname;
    State state = State::kAsked;
    bool down = false;
    bool was_current = false;
    bool paused = false;  // its lines are not wanted for want of room
    TimePoint heard;
    TimePoint ask_at;
    std::set<std::string> tasks;      // that should have a log there
    std::set<std::string> described;  // to the client
    // Tasks that are this node's, and those that were until they were collected: of others it has
    // nothing to say.
    std::set<std::string> placed;
    std::deque<std::string> collected;  // the last kCollectedMax
    std::map<std::string, Seen> seen;
  };

  void ask(const std::string& node_id, Node& node, TimePoint now);
  void lose(const std::string& node_id, Node& node, const std::string& reason);
  void finish_following(TimePoint now);
  void forget_tasks(const FlowView& view);
  static bool may_speak_of(const Node& node, const std::string& task_id);
  bool accept(Node& node, const v1::LogLine& line);
  // Nothing but what is written is wanted.
  bool ending() const { return !request_.follow() || finishing_; }
  WallTime wall(TimePoint now) const;

  const std::string id_;
  const v1::ServiceLogsRequest request_;
  const LogTargets targets_;
  const TimePoint began_;
  const WallTime wall_began_;
  bool looked_ = false;
  bool finishing_ = false;
  bool tasks_to_come_ = false;  // single tasks that have no node or no container yet
  std::map<std::string, Node, std::less<>> nodes_;
  LineMerge merge_;
  v1::ServiceLogsResponse side_;  // descriptions and what is missing, for the next answer
  std::vector<Ask> asks_;
  std::vector<std::string> cancels_;
};

}  // namespace muster::manager::logs
