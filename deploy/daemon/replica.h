#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "base/executor.h"
#include "base/log.h"
#include "base/security/unlock_key.h"
#include "deploy/daemon/backup.h"
#include "manager/store/durable/durable_store.h"
#include "raft/storage/log_store.h"
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

// This manager's copy of the cluster's state: the store over its log, and the network to the other
// managers. Made, used and destroyed on the store's strand, but for what says otherwise.
class Replica {
 public:
  // Blocks for disk reads. As store::DurableStore::open() fails, and as the state of kState does.
  static Result<std::unique_ptr<Replica>> open(Executor& strand, ReplicaOptions options);
  ~Replica();

  // Blocks for reading the snapshot.
  Status start(manager::store::ReplicationEvents events);
  // Hands leadership over, says goodbye and closes the log; `done` is the last that is told.
  void stop(UniqueFunction<void()> done);

  manager::store::Store& store() { return durable_->store(); }
  raft::Group& group() { return durable_->group(); }
  // For the service by which the others reach this one.
  std::shared_ptr<raft::Inbound> inbound() const { return inbound_; }
  // Writes the state as it is to a snapshot, from which the next start has it at once: what only
  // the log says has to be confirmed by a majority first.
  void take_snapshot(UniqueFunction<void(Status)> done) {
    durable_->take_snapshot(std::move(done));
  }
  // Any thread, after start(); blocks until the keys on disk are wrapped.
  Status set_lock(const std::optional<security::UnlockKey>& lock);

 private:
  // What the transport asks of a replica that may not be there yet, or any more.
  struct Standing;
  Replica() = default;

  std::optional<security::UnlockKey> lock_;
  std::shared_ptr<Standing> standing_;
  std::shared_ptr<raft::Inbound> inbound_;
  raft::GrpcTransport* transport_ = nullptr;  // durable_'s
  std::unique_ptr<manager::store::DurableStore> durable_;
};

}  // namespace muster::daemon
