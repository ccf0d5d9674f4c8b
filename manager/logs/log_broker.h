#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <string>

#include "base/executor.h"
#include "base/log.h"
#include "base/rng.h"
#include "base/status.h"
#include "manager/logs/log_flow.h"
#include "manager/store/store.h"

namespace muster::manager::logs {

// The way to one client; a port. Called on the broker's strand.
class LogClient {
 public:
  virtual ~LogClient() = default;
  // One message at a time: the next one follows LogBroker::sent().
  virtual void send(v1::ServiceLogsResponse message) = 0;
  // Last: nothing is called afterwards.
  virtual void end(Status status) = 0;
};

// The way from one node for one subscription; a port. Called on the broker's strand.
class LogFeeder {
 public:
  virtual ~LogFeeder() = default;
  // Lets one more message through: LogBroker::received() follows, or closed().
  virtual void read() = 0;
  // Last: nothing is called afterwards.
  virtual void end(Status status) = 0;
};

// The way to the nodes' sessions; a port. Callable from the broker's strand; what cannot be
// delivered now is dropped, since every ask is repeated until it is answered.
class AgentMessenger {
 public:
  virtual ~AgentMessenger() = default;
  virtual void send(const std::string& node_id, const v1::ManagerMessage& message) = 0;
};

struct BrokerDeps {
  Executor& strand;  // the broker's own: lines never pass the store's
  Executor& store_strand;
  store::Store& store;
  AgentMessenger& agents;
  Rng& rng;
  Log log;
};

// Brings log lines from the nodes to the clients that asked. Works while this manager leads.
//
// Lives on a strand of its own; start() and stop() are called on the store's. Everything waits for
// the slowest: a client that does not read keeps the nodes from sending, and they from reading
// their files.
//
// Bounds: kSubscriptionsMax clients; each holds about 100 KiB per node and one message of
// kMessageBytes.
class LogBroker : public std::enable_shared_from_this<LogBroker> {
 public:
  static constexpr size_t kSubscriptionsMax = 64;
  static constexpr size_t kMessageBytes = 64 << 10;

  explicit LogBroker(BrokerDeps deps);
  ~LogBroker();

  // ---- on the store's strand

  void start();
  // Ends every client UNAVAILABLE. The store is not touched afterwards.
  void stop();

  // ---- on the broker's strand

  Executor& strand() { return deps_.strand; }
  // A client asks. A refusal is told to it like any other end.
  void subscribe(const v1::ServiceLogsRequest& request, std::shared_ptr<LogClient> client);
  void sent(const LogClient& client);
  void gone(const LogClient& client);
  // A node's stream has said which subscription it is for; received() of that message follows.
  void opened(const std::string& node_id, const std::string& subscription_id,
              std::shared_ptr<LogFeeder> feeder);
  void received(const LogFeeder& feeder, v1::LogPublish message);
  void closed(const LogFeeder& feeder);

  size_t subscriptions() const { return subscriptions_.size(); }

 private:
  struct Feed {
    std::shared_ptr<LogFeeder> feeder;
    bool reading = false;
  };
  struct Subscription {
    explicit Subscription(LogFlow f) : flow(std::move(f)) {}
    LogFlow flow;
    std::shared_ptr<LogClient> client;
    bool client_ready = true;
    std::map<std::string, Feed> feeds;  // by node id
    Executor::TimerId timer = 0;
  };
  using Place = std::pair<std::string, std::string>;  // subscription, node

  Result<LogTargets> resolve(const v1::ServiceLogsRequest& request,
                             const store::Snapshot& view) const;
  FlowView view_of(const LogTargets& targets, const store::Snapshot& view) const;
  // What follows from an event: messages, asks, reads, the end, the next look at the clock.
  void pump(Subscription& subscription);
  void drop(const std::string& id, const Status& status, bool tell_client);
  void look();
  void on_commit(const store::CommitEvent& event);
  void watch(bool wanted);
  Subscription* find(const std::string& id);

  BrokerDeps deps_;
  bool running_ = false;                                                // the broker's strand
  std::map<std::string, std::unique_ptr<Subscription>> subscriptions_;  // by id
  std::map<const LogClient*, std::string> by_client_;
  std::map<const LogFeeder*, Place> by_feeder_;
  std::atomic<bool> look_posted_ = false;
  bool watched_ = false;
  bool started_ = false;  // the store's strand
  store::Store::Subscription watch_;
};

}  // namespace muster::manager::logs
