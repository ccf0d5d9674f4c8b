#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "manager/dispatcher/dispatcher.h"
#include "manager/dispatcher/payload_feed.h"

namespace muster::manager::dispatcher {

// One agent's session; internal to the dispatcher.
class Dispatcher::SessionImpl final : public Dispatcher::Session,
                                      public std::enable_shared_from_this<SessionImpl> {
 public:
  SessionImpl(Dispatcher& dispatcher, std::weak_ptr<int> dispatcher_alive, std::string node_id,
              std::string peer_address, std::shared_ptr<AgentConnection> connection, bool manager);

  void received(const v1::AgentMessage& message) override;
  void closed() override;

  const std::string& id() const { return id_; }
  const std::string& node_id() const { return node_id_; }
  const StandingClaim& claim() const { return claim_; }
  // Who it is, in words: "HOSTNAME at ADDRESS".
  std::string host() const;
  // Its hello had to wait, and may be answered now.
  void claim_again();
  // Another host's claim to be this node was refused.
  void claim_stood(const std::string& message);
  SentTasks& sent_tasks() { return sent_; }
  const std::set<std::string, std::less<>>& networks() const { return networks_; }
  uint64_t applied_version(const v1::FeedId& feed) const;

  // Its certificate is a manager's.
  bool manager() const { return manager_; }
  void acknowledge(uint64_t sequence);
  void send_task_step(v1::FeedUpdate step, uint64_t version);
  // Sends complete feeds of networks the node newly takes part in, and drops those it left.
  void refresh_networks(const store::Snapshot& view);
  const PayloadFeed& payloads() const { return payloads_; }
  // Works out anew which secrets and configs the node is to have, and sends what it lacks.
  void refresh_payloads(const store::Snapshot& view);
  void send_all(const std::vector<Bytes>& messages);
  void send_message(const v1::ManagerMessage& message) { send(serialise(message)); }
  void send_cluster(const store::Snapshot& view);
  // Says why, then closes.
  void end(v1::SessionEnd::Reason reason, const std::string& message);

 private:
  void hello(const v1::SessionHello& hello);
  void begin(const v1::SessionHello& hello, const store::Snapshot& view);
  void alive();
  void announce(const v1::NodeDescription& description);
  void heartbeat(const v1::AgentHeartbeat& heartbeat);
  void goodbye(const v1::Goodbye& goodbye);
  void acknowledged(const v1::FeedAck& ack);
  void send_payloads(const store::Snapshot& view);
  void send(Bytes message);
  v1::ClusterFeed cluster_feed(const store::Snapshot& view, const v1::Node& node);
  // Whether it takes part in an encrypted network: such nodes alone have the keys.
  bool encrypts(const store::Snapshot& view) const;

  Dispatcher& dispatcher_;
  std::weak_ptr<int> dispatcher_alive_;
  const std::string node_id_;
  const std::string peer_address_;
  static constexpr Duration kRivalGone = 10min;  // without its coming again
  std::shared_ptr<AgentConnection> connection_;
  const bool manager_;
  std::string id_;  // empty before hello
  StandingClaim claim_;
  std::string hostname_;
  std::optional<v1::SessionHello> waiting_;  // a hello, for another session of the node
  std::optional<TimePoint> rivalled_at_;     // when another host was refused last
  bool open_ = true;
  bool orderly_ = false;  // the agent said goodbye
  SentTasks sent_;
  PayloadFeed payloads_;
  uint64_t task_version_ = 0;
  uint64_t cluster_version_ = 0;
  std::string cluster_bytes_;  // last sent, to send changes only
  std::set<std::string, std::less<>> networks_;
  std::map<std::string, uint64_t> applied_;  // by feed key
};

}  // namespace muster::manager::dispatcher
