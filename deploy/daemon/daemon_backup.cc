// The swarm's state out of this manager, and into a node that has none.
#include <utility>

#include "base/security/key_files.h"
#include "deploy/daemon/backup.h"
#include "deploy/daemon/cluster_start.h"
#include "deploy/daemon/daemon.h"
#include "deploy/daemon/run_on.h"
#include "manager/ca/root.h"

namespace muster::daemon {
namespace {

using manager::control::BackupStream;
using manager::control::Callback;
using manager::control::RestoreStream;

constexpr size_t kChunkBytes = 512 << 10;

// The state of one moment; encoded piece by piece on the pool's threads, since it may be large and
// the key takes its time.
class Backup final : public BackupStream, public std::enable_shared_from_this<Backup> {
 public:
  Backup(WorkPool& pool, std::string passphrase, std::string cluster_id,
         manager::store::Snapshot snapshot)
      : pool_(pool),
        passphrase_(std::move(passphrase)),
        cluster_id_(std::move(cluster_id)),
        snapshot_(std::move(snapshot)) {}

  void next(Callback<std::string> done) override {
    auto shared = std::make_shared<Callback<std::string>>(std::move(done));
    const bool queued =
        pool_.post([self = shared_from_this(), shared] { (*shared)(self->piece()); });
    if (!queued) (*shared)(fail(resource_exhausted("too many requests wait on this node")));
  }

 private:
  Result<std::string> piece() {
    if (!std::exchange(begun_, true)) MUSTER_TRY(encode());
    if (pieces_.empty()) return std::string();
    std::string piece = std::move(pieces_.front());
    pieces_.pop_front();
    return piece;
  }
  Status encode() {
    MUSTER_ASSIGN(auto writer, BackupWriter::create(passphrase_, cluster_id_, snapshot_.version()));
    pieces_.push_back(writer.beginning());
    MUSTER_TRY(manager::store::Store::save(snapshot_, kChunkBytes,
                                           [&](const std::string& chunk) -> Status {
                                             MUSTER_ASSIGN(std::string frame, writer.chunk(chunk));
                                             pieces_.push_back(std::move(frame));
                                             return ok_status();
                                           }));
    MUSTER_ASSIGN(std::string end, writer.end());
    pieces_.push_back(std::move(end));
    return ok_status();
  }

  WorkPool& pool_;
  const std::string passphrase_;
  const std::string cluster_id_;
  const manager::store::Snapshot snapshot_;
  bool begun_ = false;
  std::deque<std::string> pieces_;
};

// What the API destroys; the backup itself stays until its piece under way is done.
class BackupHandle final : public BackupStream {
 public:
  explicit BackupHandle(std::shared_ptr<Backup> backup) : backup_(std::move(backup)) {}
  void next(Callback<std::string> done) override { backup_->next(std::move(done)); }

 private:
  std::shared_ptr<Backup> backup_;
};

}  // namespace

void Daemon::backup_swarm(const v1::BackupSwarmRequest& request,
                          Callback<std::unique_ptr<BackupStream>> done) {
  const auto role = manager();
  if (role == nullptr) return done(fail(unavailable("{}", role_error())));
  if (request.passphrase().empty()) {
    return done(fail(invalid_argument("a backup needs a passphrase")));
  }
  done(std::unique_ptr<BackupStream>(std::make_unique<BackupHandle>(std::make_shared<Backup>(
      *local_calls_, request.passphrase(), role->cluster_id(), role->snapshot()))));
}

// ------------------------------------------------------------ restore

class Daemon::Restore final : public RestoreStream {
 public:
  explicit Restore(Daemon& daemon) : state_(std::make_shared<State>(daemon)) {}

  void write(v1::RestoreSwarmRequest message, UniqueFunction<void(Status)> done) override {
    auto shared = std::make_shared<UniqueFunction<void(Status)>>(std::move(done));
    const bool queued = state_->daemon.local_calls_->post(
        [state = state_, message = std::move(message), shared]() mutable {
          (*shared)(state->add(std::move(message)));
        });
    if (!queued) (*shared)(resource_exhausted("too many requests wait on this node"));
  }

  void finish(Callback<v1::RestoreSwarmResponse> done) override {
    auto shared = std::make_shared<Callback<v1::RestoreSwarmResponse>>(std::move(done));
    // The last piece was decoded before this is called.
    state_->daemon.lifecycle_.post([state = state_, shared] {
      if (state->daemon.stopped_) return (*shared)(fail(unavailable("musterd stops")));
      if (!state->reader) return (*shared)(fail(invalid_argument("the backup is empty")));
      auto whole = state->reader->finish();
      if (!whole) return (*shared)(fail(whole.error()));
      (*shared)(state->daemon.restore(state->first, *std::move(whole)));
    });
  }

 private:
  struct State {
    explicit State(Daemon& the_daemon) : daemon(the_daemon) {}
    Status add(v1::RestoreSwarmRequest message) {
      if (!reader) {
        MUSTER_TRY(daemon.may_restore());
        if (message.passphrase().empty()) return invalid_argument("a backup has a passphrase");
        first = message;
        first.clear_chunk();
        reader = std::make_unique<BackupReader>(message.passphrase());
      }
      return message.chunk().empty() ? ok_status() : reader->add(message.chunk());
    }
    Daemon& daemon;
    v1::RestoreSwarmRequest first;
    std::unique_ptr<BackupReader> reader;
  };
  std::shared_ptr<State> state_;
};

void Daemon::restore_swarm(Callback<std::unique_ptr<RestoreStream>> done) {
  if (const Status allowed = may_restore(); !allowed.ok()) return done(fail(allowed));
  done(std::unique_ptr<RestoreStream>(std::make_unique<Restore>(*this)));
}

Status Daemon::may_restore() const {
  std::lock_guard lock(mutex_);
  if (!state_.membership) return ok_status();
  return unavailable(
      "This node is already part of a swarm. Use \"muster swarm leave\" to leave this swarm before "
      "a backup is restored on it.");
}

Result<v1::RestoreSwarmResponse> Daemon::restore(const v1::RestoreSwarmRequest& request,
                                                 BackupState state) {
  MUSTER_TRY(may_restore());
  // Read once as a store would, for what this node needs of it, and before anything is changed.
  Result<v1::Cluster> cluster = run_on(main_loop_, [&]() -> Result<v1::Cluster> {
    manager::store::Store store(main_loop_, nullptr, log_);
    MUSTER_TRY(store.load_begin());
    for (const std::string& chunk : state.chunks) MUSTER_TRY(store.load_chunk(chunk));
    MUSTER_TRY(store.load_end());
    const auto found = store.snapshot().cluster();
    if (found == nullptr) return fail(data_loss("the backup has no cluster in it"));
    return *found;
  });
  MUSTER_TRY(cluster ? ok_status() : cluster.error());
  MUSTER_ASSIGN(
      Membership membership,
      new_membership(request.listen_addr(), request.advertise_addr(), request.data_path_addr()));
  membership.node_id = rng_.id();
  membership.cluster_id = state.cluster_id;
  const manager::ca::Signer signer = manager::ca::signer(cluster->root_ca());
  MUSTER_ASSIGN(
      security::NodeCredentials credentials,
      issue_own_credentials(signer.root, membership, certificate_validity(cluster->spec()),
                            main_loop_.clock().wall_now()));
  credentials.node.certificate_pem += signer.intermediates_pem;
  MUSTER_ASSIGN(credentials.root_pem, manager::ca::trust_bundle(cluster->root_ca()));
  NodeIdentity::Lock lock;
  if (cluster->spec().autolock()) {
    MUSTER_ASSIGN(lock, security::UnlockKey::parse(cluster->unlock_key()));
  }
  const v1::Node self = own_node(membership, v1::NodeSpec::ACTIVE, describe(membership));
  MUSTER_TRY(found(membership, std::move(credentials), lock, ReplicaStart::kState, std::move(state),
                   [&](ManagerRole& manager) { return manager.take_over(self); }));
  log_->warn("swarm {} was restored; this is node {}, its only manager", membership.cluster_id,
             membership.node_id);
  v1::RestoreSwarmResponse response;
  response.set_node_id(membership.node_id);
  return response;
}

}  // namespace muster::daemon
