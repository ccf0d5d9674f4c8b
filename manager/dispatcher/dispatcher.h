#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/executor.h"
#include "base/log.h"
#include "base/rng.h"
#include "manager/dispatcher/claim.h"
#include "manager/dispatcher/connection.h"
#include "manager/dispatcher/departures.h"
#include "manager/dispatcher/liveness.h"
#include "manager/dispatcher/masquerade.h"
#include "manager/dispatcher/network_feed.h"
#include "manager/dispatcher/node_writer.h"
#include "manager/dispatcher/orphans.h"
#include "manager/dispatcher/routes.h"
#include "manager/dispatcher/status_writer.h"
#include "manager/dispatcher/task_feed.h"
#include "manager/store/store.h"
#include "raft/node/group.h"

namespace muster::manager::dispatcher {

// Finds out whether a silent node's host lives; a port, since it touches the network.
class HostProbe {
 public:
  virtual ~HostProbe() = default;
  // Tries to connect to the node's own port. Answers on the dispatcher's strand within 2 s.
  virtual void probe(const std::string& address, std::function<void(ProbeResult)> done) = 0;
};

struct DispatcherDeps {
  Executor& strand;  // the store's
  store::Store& store;
  Rng& rng;
  HostProbe& probe;
  Log log;
  // Who manages the swarm, as this node sees it now; without it this is the only manager.
  std::function<raft::GroupView()> group;
};

// Hears what nodes find of their networks (examiner/), on the dispatcher's strand.
struct FindingEvents {
  std::function<void(const std::string& node_id, const v1::NetworkFindings& findings)> found;
  // The node's session has ended, or another one begins.
  std::function<void(const std::string& node_id)> gone;
};

struct DispatcherOptions {
  std::string manager_id;                  // this node
  std::vector<std::string> manager_addrs;  // told to agents while no group is known
};

// Serves agents' sessions and keeps the nodes' status true, while this manager leads: whoever else
// is asked tells agents where to go. Lives on the store's strand; owned by the daemon. One session
// a node: a newer one of the same agent ends the older; one of another host, that has a copy of the
// node's state, is refused for as long as the first one lives (claim.h).
//
// A session ends when its node is removed, and when the node's role has become another than its
// certificate's: the agent renews that and comes back. It may come back with the old one; of what
// is for managers alone it gets nothing before both say so.
//
// Bounds: a session whose send queue passes kQueueBytesMax is closed and starts anew.
class Dispatcher final : public Routes {
 public:
  static constexpr size_t kQueueBytesMax = 32 << 20;

  Dispatcher(DispatcherDeps deps, DispatcherOptions options);
  ~Dispatcher() override;

  // With leadership: nodes of which nothing is heard become unknown, then down; each has twice the
  // usual time to come from the leader before.
  void start_leading();
  // Ends every session and forgets what was to be written: nothing is proposed afterwards.
  void stop_leading();

  // A stream of the node `node_id`, whose certificate the adapter has checked; `manager`: it is a
  // manager's. The handle stands
  // for the agent's side: messages as they arrive, then closed() once. The connection outlives the
  // handle.
  class Session {
   public:
    virtual ~Session() = default;
    virtual void received(const v1::AgentMessage& message) = 0;
    virtual void closed() = 0;
  };
  std::shared_ptr<Session> connect(const std::string& node_id, const std::string& peer_address,
                                   std::shared_ptr<AgentConnection> connection,
                                   bool manager = false);

  // The group is another: agents learn where managers are.
  void managers_changed();

  // Ends every session, telling the agents to come back elsewhere or later.
  void shut_down(const std::string& message);

  // Hands the node a message of another room; dropped when it has no session.
  void send(const std::string& node_id, const v1::ManagerMessage& message);

  // Applied version of a feed, as the node last acknowledged it; 0 when it has no session.
  uint64_t applied_version(const std::string& node_id, const v1::FeedId& feed) const;
  size_t session_count() const { return sessions_.size(); }
  // The nodes that have one.
  std::set<std::string> nodes_with_session() const;
  // Replaces who listens; {} = nobody.
  void listen_findings(FindingEvents events) { finding_events_ = std::move(events); }

  void listen(RouteEvents events) override { route_events_ = std::move(events); }
  Routers routers(const std::string& network_id) const override;

 private:
  class SessionImpl;
  struct NodeWatch {
    Liveness liveness;
    Executor::TimerId timer = 0;
    TimePoint timer_due;
  };

  // Where agents find managers, the leader first.
  std::vector<std::string> manager_addresses() const;
  // The others, for an agent whose session ends: the leader first if there is one; who only does
  // not lead names nobody without it, since the agent waits for whom it is sent to.
  std::vector<std::string> better_managers(v1::SessionEnd::Reason reason) const;
  // What nodes are to trust, and by whom their certificates are to be; worked out once a root.
  struct Trust {
    std::string root;  // what it was worked out from
    std::string bundle_pem;
    std::string issuer_key_der;
  };
  const Trust& trust(const v1::RootCa& root);
  void on_commit(const store::CommitEvent& event);
  void end_sessions(v1::SessionEnd::Reason reason, const std::string& message);
  void on_node_change(const store::Change<v1::Node>& change);
  // What one commit means to the sessions, by node.
  struct Touched {
    std::map<std::string, v1::FeedUpdate> steps;  // of the task feed
    std::set<std::string> memberships;            // nodes that may have entered or left a network
    std::set<std::string> payloads;               // nodes whose secrets and configs may change
  };
  void on_task_change(const store::Change<v1::Task>& change, const store::CommitEvent& event,
                      Touched& touched);
  // The node's right to secrets and configs may change with the task.
  bool touches_payloads(const store::Change<v1::Task>& change, const store::CommitEvent& event,
                        const SessionImpl& session) const;
  // A secret or config is gone.
  void on_payload_gone(const std::string& id, Touched& touched) const;
  std::shared_ptr<SessionImpl> find_session(const std::string& node_id);
  // Tells who listens.
  void routes_known(const SessionImpl& session, const std::string& network_id);
  void routes_forgotten(const std::string& node_id);
  void unsubscribe(const SessionImpl& session);
  void unsubscribe(const std::string& network_id, const std::string& node_id);
  // Whether the node's session calls from where the group reaches its member.
  bool at_home(const std::string& node_id, const std::string& peer_address) const;
  ClaimVerdict judge(const SessionImpl& newcomer) const;
  // The newcomer waits for what becomes of the session that stands.
  void claim_later(const std::shared_ptr<SessionImpl>& newcomer);
  // The session that stands lives: who waits for its end is another host.
  void claim_answered(SessionImpl& standing);
  // Nothing stands before it any more, or may not.
  void claim_again(const std::string& node_id);
  void register_session(const std::shared_ptr<SessionImpl>& session);
  void drop_session(SessionImpl& session, bool orderly);
  LivenessPolicy policy() const;
  void watch(const std::string& node_id, Liveness liveness);
  void judge(const std::string& node_id);
  void probe(const std::string& node_id);
  void mark_down(const std::string& node_id, std::string message);
  void write_node(const std::string& node_id, NodeWriter::Change change);

  DispatcherDeps deps_;
  DispatcherOptions options_;
  NetworkFeeds networks_;
  StatusWriter statuses_;
  NodeWriter node_writer_;
  Orphans orphans_;
  Departures departures_;
  bool leading_ = false;
  Masquerade masquerade_;
  std::map<std::string, std::shared_ptr<SessionImpl>> sessions_;  // by node id, after hello
  struct Newcomer {
    std::shared_ptr<SessionImpl> session;
    TimePoint since;
    Executor::TimerId timer = 0;
  };
  std::map<std::string, Newcomer> newcomers_;  // by node id: hellos that wait
  std::map<std::string, NodeWatch> nodes_;
  Subscribers subscribers_;
  RouteEvents route_events_;
  FindingEvents finding_events_;
  std::set<std::string> unheard_;  // nodes that were not down when this manager began to lead
  Trust trust_;
  std::vector<std::string> told_managers_;
  store::Store::Subscription subscription_;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

}  // namespace muster::manager::dispatcher
