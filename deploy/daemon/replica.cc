#include "deploy/daemon/replica.h"

#include <future>
#include <mutex>
#include <utility>

#include "manager/ca/admission.h"
#include "raft/storage/rocks_log_store.h"

namespace muster::daemon {
namespace {

using manager::store::DurableStore;
using manager::store::ReplicationEvents;

constexpr Duration kWrapLimit = 10s;

std::optional<std::string> bytes_of(const std::optional<security::UnlockKey>& lock) {
  if (!lock) return std::nullopt;
  return std::string(lock->bytes());
}

raft::Member member_of(const ReplicaOptions& options) {
  raft::Member member;
  member.id = options.identity.member;
  member.node_id = options.identity.node_id;
  member.address = options.address;
  member.voter = true;
  return member;
}

// The state becomes the snapshot that a log of this member alone begins after.
Status write_state(const ReplicaOptions& options) {
  raft::RocksLogStore::Options disk;
  disk.dir = options.dir;
  disk.log = options.log;
  disk.identity = options.identity;
  disk.unlock_key = bytes_of(options.lock);
  MUSTER_ASSIGN(const auto log, raft::RocksLogStore::open(disk));
  raft::SnapshotMark mark;
  mark.index = options.state.version;
  mark.term = 1;
  mark.members.put(member_of(options));
  MUSTER_ASSIGN(const auto sink, log->create_snapshot(mark.index, mark.term));
  for (const std::string& chunk : options.state.chunks) MUSTER_TRY(sink->add(chunk));
  MUSTER_TRY(sink->finish());
  raft::Write write;
  write.token = 1;
  write.hard_state = raft::HardState{mark.term, {}};
  write.install = std::move(mark);
  return log->write({&write});
}

}  // namespace

struct Replica::Standing {
  // Whether the member was removed for good; only a leader has the newest list for certain.
  bool removed(raft::MemberId id) {
    std::lock_guard lock(mutex);
    if (!leads || durable == nullptr) return false;
    return durable->group().view().find(id) == nullptr;
  }
  // Ids of nodes are never used again, so that even an old copy is right about it.
  bool node_removed(const std::string& node_id) {
    std::lock_guard lock(mutex);
    if (durable == nullptr) return false;
    const auto cluster = durable->store().snapshot().cluster();
    return cluster != nullptr && manager::ca::is_removed(*cluster, node_id);
  }
  std::mutex mutex;
  DurableStore* durable = nullptr;
  bool leads = false;
};

Result<std::unique_ptr<Replica>> Replica::open(Executor& strand, ReplicaOptions options) {
  if (options.start == ReplicaStart::kState) MUSTER_TRY(write_state(options));
  std::unique_ptr<Replica> replica(new Replica());
  replica->standing_ = std::make_shared<Standing>();
  DurableStore::Options durable;
  durable.dir = options.dir;
  durable.log = options.log;
  durable.self = member_of(options);
  durable.cluster_id = options.identity.cluster_id;
  durable.mode =
      options.start == ReplicaStart::kFound ? raft::StartMode::kFound : raft::StartMode::kRestore;
  durable.force_new_cluster = options.start == ReplicaStart::kForce;
  durable.unlock_key = bytes_of(options.lock);
  durable.make_transport = [&](raft::TransportEvents& events) -> std::unique_ptr<raft::Transport> {
    raft::GrpcTransportOptions transport;
    transport.cluster_id = options.identity.cluster_id;
    transport.self = options.identity.member;
    transport.address = options.address;
    transport.removed = [standing = replica->standing_](raft::MemberId id) {
      return standing->removed(id);
    };
    transport.node_removed = [standing = replica->standing_](const std::string& node_id) {
      return standing->node_removed(node_id);
    };
    auto made = std::make_unique<raft::GrpcTransport>(std::move(transport), options.channels,
                                                      events, options.log);
    replica->inbound_ = made->inbound();
    replica->transport_ = made.get();
    return made;
  };
  MUSTER_ASSIGN(replica->durable_, DurableStore::open(strand, std::move(durable)));
  replica->standing_->durable = replica->durable_.get();
  replica->lock_ = options.lock;
  return replica;
}

Replica::~Replica() {
  std::lock_guard lock(standing_->mutex);
  standing_->durable = nullptr;
}

Status Replica::start(ReplicationEvents events) {
  const auto leads = [standing = standing_](bool now) {
    std::lock_guard lock(standing->mutex);
    standing->leads = now;
  };
  events.on_lead = [this, leads, next = std::move(events.on_lead)](uint64_t term) {
    leads(true);
    transport_->judge_again();
    next(term);
  };
  events.on_cluster_changed = [this, next = std::move(events.on_cluster_changed)] {
    transport_->judge_again();
    if (next) next();
  };
  events.on_follow = [leads, next = std::move(events.on_follow)] {
    leads(false);
    next();
  };
  MUSTER_TRY(durable_->start(std::move(events)));
  // Keys that lay as they are, from before the swarm was locked, are wrapped now.
  return lock_ ? set_lock(lock_) : ok_status();
}

void Replica::stop(UniqueFunction<void()> done) {
  durable_->stop(std::move(done));
}

Status Replica::set_lock(const std::optional<security::UnlockKey>& lock) {
  auto result = std::make_shared<std::promise<Status>>();
  auto future = result->get_future();
  durable_->with_log(
      [result, key = bytes_of(lock)](raft::LogStore& log) { result->set_value(log.rewrap(key)); });
  if (future.wait_for(kWrapLimit) != std::future_status::ready) {
    return Status(StatusCode::kDeadlineExceeded, "the disk of the log does not answer");
  }
  return future.get();
}

}  // namespace muster::daemon
