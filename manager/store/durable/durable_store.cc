#include "manager/store/durable/durable_store.h"

#include <utility>

#include "raft/node/open_log.h"

namespace muster::manager::store {

Result<std::unique_ptr<DurableStore>> DurableStore::open(Executor& strand, Options options) {
  raft::LogFiles files;
  files.dir = options.dir;
  files.log = options.log;
  files.identity = {options.cluster_id, options.self.node_id, options.self.id};
  files.unlock_key = options.unlock_key;
  files.env = options.env;
  files.free_bytes_min = options.free_bytes_min;
  files.reserve_bytes = options.reserve_bytes;
  if (options.force_new_cluster) files.alone = options.self;
  MUSTER_ASSIGN(auto opened, raft::open_log(std::move(files)));
  return std::unique_ptr<DurableStore>(new DurableStore(
      strand, std::move(options), std::move(opened.store), std::move(opened.restored)));
}

DurableStore::DurableStore(Executor& strand, Options options, std::unique_ptr<raft::LogStore> store,
                           raft::Restored restored)
    : raft_strand_("raft"), disk_(std::move(store)) {
  raft::Node::Options node;
  node.tuning = options.tuning;
  node.self = options.self;
  node.mode = options.mode;
  node.members = std::move(options.members);
  node.snapshot_entries = options.snapshot_entries;
  node.on_fatal = std::move(options.on_fatal);
  // start() says what the events are for.
  ReplicationEvents events;
  events.on_lead = [this](uint64_t term) {
    if (events_.on_lead) events_.on_lead(term);
  };
  events.on_follow = [this] {
    if (events_.on_follow) events_.on_follow();
  };
  events.on_group_changed = [this] {
    if (events_.on_group_changed) events_.on_group_changed();
  };
  events.on_cluster_changed = [this] {
    if (events_.on_cluster_changed) events_.on_cluster_changed();
  };
  events.on_removed = [this] {
    if (events_.on_removed) events_.on_removed();
  };
  replicated_ = std::make_unique<ReplicatedStore>(
      ReplicatedStore::Ports{raft_strand_, strand, disk_, rng_, options.log}, std::move(node),
      std::move(restored), std::move(events));
  transport_ = options.make_transport ? options.make_transport(replicated_->transport_events())
                                      : raft::make_null_transport();
}

DurableStore::~DurableStore() = default;

Status DurableStore::start(ReplicationEvents events) {
  events_ = std::move(events);
  return replicated_->start(*transport_);
}

void DurableStore::stop(UniqueFunction<void()> done) {
  replicated_->stop(std::move(done));
}

void DurableStore::take_snapshot(UniqueFunction<void(Status)> done) {
  replicated_->node().take_snapshot(std::move(done));
}

}  // namespace muster::manager::store
