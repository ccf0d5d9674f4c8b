#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "agent/names/name_server.h"
#include "agent/routes/route_book.h"
#include "agent/worker/blocking_pool.h"
#include "agent/worker/feed_files.h"
#include "base/executor.h"
#include "base/log.h"
#include "overlay/dataplane/node_network.h"

namespace muster::agent {

// What the keeper stands on; all outlive it, but for what the functions lead to.
struct RouteKeeperDeps {
  Executor& strand;
  BlockingPool& pool;
  overlay::NodeNetwork& network;
  NameServer* names = nullptr;
  std::shared_ptr<FeedFiles> feeds;  // what the managers told is kept here
  // A network's feed up to this version (0: nothing new of it) has been carried out here without a
  // failure, and netd was told of it; or ingress_ports() or troubles() have changed. `forgotten`:
  // the node takes no part in the network any more.
  std::function<void(const std::string& network_id, uint64_t version, bool forgotten)> carried_out;
  // The kernel receives with the keys of encrypted networks that the CLUSTER feed had up to here.
  std::function<void(uint64_t version)> encrypted;
  // The kernel was looked at; how it was found to differ, a sentence each.
  std::function<void(const std::vector<std::string>& found)> repaired;
  Log log;
};

// Carries out on a pool what the route book wants of the kernel: one step of a network at a time
// and in order; what changes meanwhile is the next step. netd hears of a change after the kernel,
// so that a name does not lead to an address that leads nowhere yet. What fails is said once and
// tried again every kPeriod; the kernel is compared as often with what it should be, and mended.
//
// On the agent's strand, as all of the worker.
class RouteKeeper {
 public:
  static constexpr Duration kPeriod = 10s;
  static constexpr Duration kFirstRepair = 1s;
  // How long a repair waits for a moment without steps, which would have to wait for it.
  static constexpr Duration kRepairPatience = 20s;
  // How long a container waits for what managers have to tell of a network that is new to the node.
  static constexpr Duration kFeedLimit = 500ms;

  RouteKeeper(RouteKeeperDeps deps, std::string node_id);
  ~RouteKeeper();
  RouteKeeper(const RouteKeeper&) = delete;
  RouteKeeper& operator=(const RouteKeeper&) = delete;

  // Goes on with what the managers had told an earlier process, and begins to compare. The tasks of
  // this node are known by now.
  void start();
  // Steps wait while the kernel is told; a failure is tried again every kPeriod.
  void set_local_node(const overlay::LocalNode& node);
  // What encrypted networks travel with, as that version of the CLUSTER feed says.
  void set_encryption(overlay::Encryption encryption, uint64_t version);
  void set_task(const v1::LocalTask& task);
  void remove_task(const std::string& task_id);
  // Tasks that change between these two change at once: a network that one of them leaves and
  // another enters was never left. What is waited for counts them from the first on.
  void hold();
  void release();
  // A step of a NETWORK feed, of whatever driver the network is.
  void apply(const v1::FeedUpdate& step);
  void leave();
  // Runs `next` once nothing of it is under way in the kernel; after leave() nothing begins then.
  void when_quiet(UniqueFunction<void()> next);

  // Runs `next` once all that was said before has been carried out, or has failed once; at once
  // where nothing is left to do.
  void after_all(UniqueFunction<void()> next);
  // The same for the networks of one task.
  void after_task(const v1::LocalTask& task, UniqueFunction<void()> next);
  // The same, and what the managers know of these networks is waited for, too: not for long, they
  // may be away.
  void before_start(const v1::LocalTask& task, UniqueFunction<void()> next);
  // Whether the kernel is behind with a network of the task.
  bool behind(const v1::LocalTask& task) const;

  // What could not be carried out and is tried again, a sentence for each network.
  std::vector<std::string> troubles() const;

  // What is known of the networks that the node takes part in; see RouteBook::all().
  std::vector<overlay::NetworkStep> networks() const { return book_.all(); }

  // Whether ingress_ports() are others since this was asked last.
  bool take_ingress_changed() { return std::exchange(ingress_changed_, false); }
  // Published ports of the ingress network and tasks of other nodes that the kernel knows the way
  // to.
  const std::vector<overlay::PublishedPort>& ingress_ports() const { return ingress_ports_; }
  // What the managers said of a task of this node with those ports (led_task.h); ABSENT: nothing.
  v1::EndpointState ingress_state(const std::string& task_id) const {
    const auto at = ingress_own_.find(task_id);
    return at == ingress_own_.end() ? v1::ENDPOINT_ABSENT : at->second;
  }

 private:
  // One network.
  struct Route {
    uint64_t asked = 0;    // changes so far
    uint64_t carried = 0;  // of those, carried out, or failed
    bool busy = false;
    bool failed = false;                       // the last step
    std::string said;                          // of that, in the log
    uint64_t version = 0;                      // of its feed, heard
    bool untold = false;                       // that this version is in force
    std::vector<overlay::NetworkStep> names;   // that netd has not been told
    std::vector<overlay::NetworkStep> unkept;  // that are not in the files
  };
  struct Outcome {
    Status kept;  // in the files
    Status kernel;
  };
  // What was asked when a step was taken.
  struct Taken {
    std::string network_id;
    bool forget = false;
    uint64_t asked = 0;
    uint64_t version = 0;
    size_t names = 0;
    std::vector<overlay::PublishedPort> ingress_ports;
    std::map<std::string, v1::EndpointState> ingress_own;
  };
  struct Waiter {
    std::map<std::string, uint64_t> needs;  // by network, what has to be carried out
    UniqueFunction<void()> next;
  };
  struct FeedWaiter {
    std::set<std::string> networks;  // without a feed
    v1::LocalTask task;
    UniqueFunction<void()> next;
    Executor::TimerId timer = 0;
  };

  void restore();
  void take_step(const v1::FeedUpdate& step);
  // What goes into the files with the next step.
  std::vector<overlay::NetworkStep> take_unkept(const std::string& network_id, Route& route);
  void kept(const Status& status);
  bool drop_unknown(const std::string& network_id);
  void pump_changed();
  void pump(const std::string& network_id);
  void finished(const Taken& taken, const Status& status);
  void settle(const Taken& taken);
  void release_waiters();
  void after(const std::vector<std::string>& networks, UniqueFunction<void()> next);
  void feeds_changed();
  void feed_waited(std::list<FeedWaiter>::iterator waiter);
  void tell_local_node();
  void tell_encryption();
  void tick();
  void repair_when_idle();
  // Runs `work` on the pool and what it returns on the strand, if the keeper still exists.
  template <class Work, class Done>
  void on_pool(Work work, Done done);
  void one_done();

  RouteKeeperDeps deps_;
  RouteBook book_;
  std::map<std::string, Route> routes_;  // by network
  bool held_ = false;
  std::set<std::string> due_;  // networks that have changed meanwhile
  std::list<Waiter> waiters_;
  std::list<FeedWaiter> feed_waiters_;
  std::vector<overlay::PublishedPort> ingress_ports_;
  std::map<std::string, v1::EndpointState> ingress_own_;  // by task id, as of the same step
  std::string ingress_id_;
  bool ingress_changed_ = false;
  overlay::LocalNode local_wanted_;
  overlay::LocalNode local_set_;
  bool local_known_ = false;  // whether the kernel was told local_set_
  bool local_busy_ = false;
  std::string local_said_;
  // Keys; in memory alone.
  overlay::Encryption encryption_wanted_;
  overlay::Encryption encryption_set_;
  uint64_t encryption_version_ = 0;  // of encryption_wanted_; 0: it was said that it is in force
  bool encryption_known_ = true;     // whether the kernel was told encryption_set_
  bool encryption_busy_ = false;
  std::string encryption_said_;
  std::string files_said_;
  std::optional<TimePoint> repair_due_;  // since when
  bool repairing_ = false;
  bool left_ = false;
  size_t under_way_ = 0;               // on the pool
  UniqueFunction<void()> when_quiet_;  // runs when that is none
  Executor::TimerId timer_ = 0;
  std::shared_ptr<RouteKeeper*> self_;  // emptied by the destructor
};

}  // namespace muster::agent
