#pragma once

#include <grpcpp/channel.h>

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/executor.h"
#include "base/log.h"
#include "base/rng.h"
#include "base/security/unlock_key.h"
#include "base/thread_executor.h"
#include "deploy/daemon/backup.h"
#include "manager/store/durable/log_proposer.h"
#include "manager/store/store.h"
#include "raft/node/log_disk.h"
#include "raft/node/node.h"
#include "raft/storage/rocks_log_store.h"
#include "raft/transport/grpc/grpc_transport.h"

namespace muster::daemon {

// How a replica begins.
enum class ReplicaStart {
  kRestore,  // as its disk says; with an empty one it waits until the group takes it in
  kFound,    // the first of a new group
  kForce,    // alone with what is on its disk: the others are lost
  kState,    // the first of a new group that goes on with a state of before
};

struct ReplicaOptions {
  std::filesystem::path dir;
  raft::LogIdentity identity;
  std::string address;  // where the others reach this one
  std::optional<security::UnlockKey> lock;
  ReplicaStart start = ReplicaStart::kRestore;
  BackupState state;  // of kState
  raft::ChannelFactory channels;
  Log log;
};

// What a replica tells, on the user's strand.
class ReplicaEvents {
 public:
  virtual ~ReplicaEvents() = default;
  virtual void lead(uint64_t term) = 0;
  virtual void end_leading() = 0;
  virtual void group_changed() = 0;
  // The others took this member out, for good.
  virtual void left_group() = 0;
};

// This manager's copy of the cluster's state: its log on disk, the driver, the network to the
// others, and the store that the log is applied to. Made, used and destroyed on the user's strand,
// but for what says otherwise.
class Replica final : private raft::StateMachine {
 public:
  // Blocks for disk reads. As RocksLogStore::open() fails, and as the state of kState does.
  static Result<std::unique_ptr<Replica>> open(Executor& user, Rng& rng, ReplicaOptions options,
                                               ReplicaEvents& events);
  ~Replica() override;

  // Blocks for reading the snapshot.
  Status start();
  // Hands leadership over, says goodbye and closes the log; `done` is the last that is told.
  void stop(UniqueFunction<void()> done);

  manager::store::Store& store() { return *store_; }
  raft::Group& group() { return *node_; }
  std::shared_ptr<raft::Inbound> inbound() const { return transport_->inbound(); }
  // Any thread, after start(); blocks until the keys on disk are wrapped.
  Status set_lock(const std::optional<security::UnlockKey>& lock);

 private:
  explicit Replica(ReplicaEvents& events) : events_(events) {}

  Status apply(raft::Index index, std::string_view payload) override;
  Status restore_begin() override;
  Status restore_chunk(std::string_view chunk) override;
  Status restore_end() override;
  raft::SnapshotProducer capture() override;
  void lead(raft::Term term) override;
  void end_leading() override;
  void group_changed() override { events_.group_changed(); }
  void removed() override { events_.left_group(); }

  ReplicaEvents& events_;
  ThreadExecutor raft_strand_{"raft"};
  // In the order of their making; each uses those before it, but the node, which uses the
  // transport.
  std::unique_ptr<raft::LogDisk> disk_;
  std::unique_ptr<raft::Node> node_;
  std::unique_ptr<raft::GrpcTransport> transport_;
  std::unique_ptr<manager::store::LogProposer> proposer_;
  std::unique_ptr<manager::store::Store> store_;
  std::atomic<bool> leads_{false};
};

}  // namespace muster::daemon
