#include "deploy/daemon/replica.h"

#include <future>
#include <utility>

namespace muster::daemon {
namespace {

namespace store = manager::store;

constexpr size_t kSnapshotChunkBytes = 512 << 10;
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
Status write_state(raft::RocksLogStore& log, const ReplicaOptions& options) {
  raft::SnapshotMark mark;
  mark.index = options.state.version;
  mark.term = 1;
  mark.members.put(member_of(options));
  MUSTER_ASSIGN(const auto sink, log.create_snapshot(mark.index, mark.term));
  for (const std::string& chunk : options.state.chunks) MUSTER_TRY(sink->add(chunk));
  MUSTER_TRY(sink->finish());
  raft::Write write;
  write.token = 1;
  write.hard_state = raft::HardState{mark.term, {}};
  write.install = std::move(mark);
  return log.write({&write});
}

}  // namespace

Result<std::unique_ptr<Replica>> Replica::open(Executor& user, Rng& rng, ReplicaOptions options,
                                               ReplicaEvents& events) {
  raft::RocksLogStore::Options disk;
  disk.dir = options.dir;
  disk.log = options.log;
  disk.identity = options.identity;
  disk.unlock_key = bytes_of(options.lock);
  MUSTER_ASSIGN(auto log, raft::RocksLogStore::open(disk));
  // The keys of a new log lie as they are until they are wrapped.
  MUSTER_TRY(log->rewrap(bytes_of(options.lock)));
  if (options.start == ReplicaStart::kState) MUSTER_TRY(write_state(*log, options));
  MUSTER_ASSIGN(raft::Restored restored, log->restore());
  if (options.start == ReplicaStart::kForce) {
    const raft::Write write = raft::force_new_group(restored, member_of(options));
    MUSTER_TRY(log->write({&write}));
  }

  std::unique_ptr<Replica> replica(new Replica(events));
  replica->disk_ = std::make_unique<raft::LogDisk>(std::move(log));
  raft::Node::Options node;
  node.self = member_of(options);
  node.mode =
      options.start == ReplicaStart::kFound ? raft::StartMode::kFound : raft::StartMode::kRestore;
  replica->node_ = std::make_unique<raft::Node>(
      std::move(node),
      raft::Node::Ports{replica->raft_strand_, user, *replica->disk_, rng, options.log, *replica},
      std::move(restored));
  raft::GrpcTransportOptions transport;
  transport.cluster_id = options.identity.cluster_id;
  transport.self = options.identity.member;
  transport.address = options.address;
  transport.feature_level = store::Store::kFeatureLevel;
  // Only a leader has the newest list for certain.
  transport.removed = [replica = replica.get()](raft::MemberId id) {
    return replica->leads_.load() && replica->node_->view().find(id) == nullptr;
  };
  replica->transport_ = std::make_unique<raft::GrpcTransport>(
      std::move(transport), options.channels, replica->node_->transport_events(), options.log);
  replica->proposer_ = std::make_unique<store::LogProposer>(*replica->node_);
  replica->store_ = std::make_unique<store::Store>(user, replica->proposer_.get(), options.log);
  return replica;
}

Replica::~Replica() {
  // The node's end stops what it still uses.
  node_.reset();
  transport_.reset();
  disk_.reset();
}

Status Replica::start() {
  return node_->start(*transport_);
}

void Replica::stop(UniqueFunction<void()> done) {
  node_->stop(std::move(done));
}

Status Replica::set_lock(const std::optional<security::UnlockKey>& lock) {
  auto result = std::make_shared<std::promise<Status>>();
  auto future = result->get_future();
  disk_->with_store(
      [result, key = bytes_of(lock)](raft::LogStore& log) { result->set_value(log.rewrap(key)); });
  if (future.wait_for(kWrapLimit) != std::future_status::ready) {
    return Status(StatusCode::kDeadlineExceeded, "the disk of the log does not answer");
  }
  return future.get();
}

// ---------------------------------------------------------------- what the log is about

Status Replica::apply(raft::Index index, std::string_view payload) {
  return store_->apply(index, payload);
}

Status Replica::restore_begin() {
  return store_->load_begin();
}

Status Replica::restore_chunk(std::string_view chunk) {
  return store_->load_chunk(chunk);
}

Status Replica::restore_end() {
  return store_->load_end();
}

raft::SnapshotProducer Replica::capture() {
  return [snapshot = store_->snapshot()](const raft::ChunkSink& sink) {
    return store::Store::save(snapshot, kSnapshotChunkBytes,
                              [&](const std::string& chunk) { return sink(chunk); });
  };
}

void Replica::lead(raft::Term term) {
  leads_ = true;
  events_.lead(term);
}

void Replica::end_leading() {
  leads_ = false;
  events_.end_leading();
}

}  // namespace muster::daemon
