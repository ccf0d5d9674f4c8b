#pragma once

#include <cstdint>
#include <functional>

#include "manager/store/durable/log_proposer.h"
#include "manager/store/store.h"
#include "raft/node/node.h"

namespace muster::manager::store {

// What happens to a manager because of its log. Called on the store's strand; not from inside a
// call of the manager's.
struct ReplicationEvents {
  // The store leads `term` and has everything that was committed before: what only a leader does
  // may start, fenced by the term (updates of another one are refused).
  std::function<void(uint64_t term)> on_lead;
  // The store leads no more: what was started in on_lead has to stop before this returns.
  std::function<void()> on_follow;
  // raft::Group::view() is different in something to act upon.
  std::function<void()> on_group_changed;
  // The cluster's object is another, by a commit or with the whole state; who is watched for
  // commits alone does not hear of the latter.
  std::function<void()> on_cluster_changed;
  // This manager was taken out of the group, for good.
  std::function<void()> on_removed;
};

// A store as the state machine of a member of a replicated log: what the log commits is applied,
// what the store changes is proposed. Works the same over a real disk and network (DurableStore)
// and over simulated ones.
//
// Strand: the user strand of `ports`, for every call; destroyed there.
class ReplicatedStore final : private raft::StateMachine {
 public:
  struct Ports {
    Executor& raft_strand;
    Executor& strand;
    raft::Disk& disk;
    Rng& rng;
    Log log;
  };

  ReplicatedStore(const Ports& ports, raft::Node::Options options, raft::Restored restored,
                  ReplicationEvents events);
  ~ReplicatedStore() override;

  // As raft::Node's.
  raft::TransportEvents& transport_events() { return node_.transport_events(); }
  Status start(raft::Transport& transport) { return node_.start(transport); }
  void stop(UniqueFunction<void()> done) { node_.stop(std::move(done)); }

  Store& store() { return store_; }
  const Store& store() const { return store_; }
  raft::Group& group() { return node_; }
  raft::Node& node() { return node_; }

 private:
  Status apply(raft::Index index, std::string_view payload) override;
  Status restore_begin() override { return store_.load_begin(); }
  Status restore_chunk(std::string_view chunk) override { return store_.load_chunk(chunk); }
  Status restore_end() override;
  raft::SnapshotProducer capture() override;
  void lead(raft::Term term) override;
  void end_leading() override;
  void group_changed() override;
  void removed() override;
  // The cluster decides about its own log.
  void configure(const v1::Cluster* cluster);

  ReplicationEvents events_;
  raft::Node node_;
  LogProposer proposer_;
  Store store_;  // goes before those: what waits in it is dropped unanswered
  Store::Subscription subscription_;
};

}  // namespace muster::manager::store
