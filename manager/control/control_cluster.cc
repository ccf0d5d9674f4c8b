// The cluster and its nodes: what is set for all, who manages, who belongs to it.
#include <utility>

#include "base/security/unlock_key.h"
#include "manager/ca/admission.h"
#include "manager/ca/root.h"
#include "manager/control/access.h"
#include "manager/control/calls.h"
#include "manager/control/cluster_objects.h"
#include "manager/control/forwarding.h"
#include "manager/control/node_changes.h"
#include "manager/control/redact.h"
#include "manager/control/validation.h"
#include "manager/members/group_facts.h"

namespace muster::manager::control {
namespace {

constexpr size_t kOrphansMax = 1'000;  // of one write
constexpr int kOrphanPassesMax = 200;

Status not_here() {
  return Status(StatusCode::kUnimplemented, "this program does not do that");
}

const raft::GroupView* get(const std::optional<raft::GroupView>& group) {
  return group ? &*group : nullptr;
}

// How encrypted networks travel.
bool same_way(const v1::EncryptionConfig& a, const v1::EncryptionConfig& b) {
  return a.udp_encapsulation() == b.udp_encapsulation() && a.udp_port() == b.udp_port();
}

// The unlock key is there exactly while autolock is on.
Status set_unlock_key(v1::Cluster& cluster, bool rotate) {
  if (!cluster.spec().autolock()) {
    if (rotate) {
      return Status(StatusCode::kFailedPrecondition,
                    "cannot rotate the unlock key because autolock is not turned on",
                    "no-autolock");
    }
    cluster.clear_unlock_key();
    return ok_status();
  }
  if (rotate || cluster.unlock_key().empty()) {
    cluster.set_unlock_key(security::UnlockKey::generate().str());
  }
  return ok_status();
}

}  // namespace

// ---------------------------------------------------------------- what the daemon does

void NodeControl::join_swarm(const v1::JoinSwarmRequest&, Callback<v1::JoinSwarmResponse> done) {
  done(fail(not_here()));
}

void NodeControl::unlock_swarm(const v1::UnlockSwarmRequest&,
                               Callback<v1::UnlockSwarmResponse> done) {
  done(fail(not_here()));
}

void NodeControl::backup_swarm(const v1::BackupSwarmRequest&,
                               Callback<std::unique_ptr<BackupStream>> done) {
  done(fail(not_here()));
}

void NodeControl::restore_swarm(Callback<std::unique_ptr<RestoreStream>> done) {
  done(fail(not_here()));
}

void ControlApi::join_swarm(const Principal& principal, const v1::JoinSwarmRequest& request,
                            Callback<v1::JoinSwarmResponse> done) {
  MUSTER_OR_DONE(check_access("muster.v1.Control.JoinSwarm", principal));
  if (request.remote_addrs().empty()) {
    return done(fail(invalid_argument("at least 1 RemoteAddr is required to join")));
  }
  if (request.join_token().empty()) {
    return done(fail(invalid_argument("a join token is required to join a swarm")));
  }
  node_.join_swarm(request, std::move(done));
}

void ControlApi::unlock_swarm(const Principal& principal, const v1::UnlockSwarmRequest& request,
                              Callback<v1::UnlockSwarmResponse> done) {
  MUSTER_OR_DONE(check_access("muster.v1.Control.UnlockSwarm", principal));
  if (const auto key = security::UnlockKey::parse(request.unlock_key()); !key) {
    return done(fail(key.error()));
  }
  node_.unlock_swarm(request, std::move(done));
}

void ControlApi::backup_swarm(const Principal& principal, const v1::BackupSwarmRequest& request,
                              Callback<std::unique_ptr<BackupStream>> done) {
  const auto state = reading("muster.v1.Control.BackupSwarm", principal);
  if (!state) return done(fail(state.error()));
  if (request.passphrase().empty()) {
    return done(fail(invalid_argument("a backup holds keys and secrets: it needs a passphrase")));
  }
  node_.backup_swarm(request, std::move(done));
}

void ControlApi::restore_swarm(const Principal& principal,
                               Callback<std::unique_ptr<RestoreStream>> done) {
  MUSTER_OR_DONE(check_access("muster.v1.Control.RestoreSwarm", principal));
  node_.restore_swarm(std::move(done));
}

// ---------------------------------------------------------------- cluster

void ControlApi::get_unlock_key(const Principal& principal, const v1::GetUnlockKeyRequest&,
                                Callback<v1::GetUnlockKeyResponse> done) {
  MUSTER_WRITING(store, "muster.v1.Control.GetUnlockKey");
  if (!store.leading()) {
    return done(
        fail(Status(StatusCode::kUnavailable, "this manager is not the leader", "not-leader")));
  }
  auto answer = [this, done = std::move(done)](const Status& status) mutable {
    if (!status.ok()) return done(fail(status));
    const auto cluster = store_ == nullptr ? nullptr : store_->snapshot().cluster();
    if (cluster == nullptr) return done(fail(not_found("there is no cluster")));
    v1::GetUnlockKeyResponse response;
    response.set_unlock_key(cluster->unlock_key());
    done(std::move(response));
  };
  // A leader that is none any more must not tell a key that somebody else has replaced.
  read_barrier(std::move(answer));
}

void ControlApi::issue_client_certificate(const Principal& principal,
                                          const v1::IssueClientCertificateRequest& request,
                                          Callback<v1::IssueClientCertificateResponse> done) {
  MUSTER_WRITING(store, "muster.v1.Control.IssueClientCertificate");
  if (!store.leading()) {
    return done(
        fail(Status(StatusCode::kUnavailable, "this manager is not the leader", "not-leader")));
  }
  // As with the unlock key: a root that was replaced since must not sign.
  read_barrier([this, request, who = encode_caller(principal),
                done = std::move(done)](const Status& status) mutable {
    if (!status.ok()) return done(fail(status));
    if (store_ == nullptr) return done(fail(unavailable("this manager stops")));
    auto issued = ca::issue_client(store_->snapshot(), request, strand_.clock().wall_now());
    if (issued) {
      log_->info("client {} has a certificate until {}, asked for by {}", request.name(),
                 format_rfc3339({issued->not_after_ns()}), who);
    }
    done(std::move(issued));
  });
}

void ControlApi::update_cluster(const Principal& principal, const v1::UpdateClusterRequest& request,
                                Callback<v1::UpdateClusterResponse> done) {
  MUSTER_WRITING(store, "muster.v1.Control.UpdateCluster");
  MUSTER_OR_DONE(validate_cluster_spec(request.spec()));
  commit<v1::UpdateClusterResponse>(
      store, "cluster.update", request.request_id(),
      [this, request](store::Transaction& tx) -> Result<std::string> {
        const auto known = tx.view().cluster();
        if (known == nullptr) return fail(not_found("there is no cluster"));
        // A swarm that was made with one port for both is not refused everything else.
        const v1::EncryptionConfig& encryption = request.spec().encryption();
        if (!same_way(encryption, known->spec().encryption())) {
          MUSTER_TRY(check_encryption_port(encryption, known->data_path_port()));
        }
        v1::Cluster cluster = *known;
        cluster.mutable_meta()->set_version(request.version());
        *cluster.mutable_spec() = request.spec();
        cluster.mutable_spec()->mutable_annotations()->set_name("default");
        // 0 is the default here as with a new swarm, and is shown as what it is.
        if (request.spec().heartbeat_period_ns() == 0) {
          cluster.mutable_spec()->set_heartbeat_period_ns(kHeartbeatPeriod.count());
        }
        MUSTER_TRY(set_unlock_key(cluster, request.rotate_unlock_key()));
        if (request.has_rotate_root()) {
          MUSTER_TRY(ca::begin_rotation(cluster, request.rotate_root(), tx.now()));
        }
        v1::JoinTokens& tokens = *cluster.mutable_root_ca()->mutable_join_tokens();
        if (request.rotate_worker_token()) {
          MUSTER_ASSIGN(*tokens.mutable_worker(), node_.new_join_token(cluster));
        }
        if (request.rotate_manager_token()) {
          MUSTER_ASSIGN(*tokens.mutable_manager(), node_.new_join_token(cluster));
        }
        MUSTER_TRY(tx.update(std::move(cluster)));
        return known->id();
      },
      [](const store::Snapshot& state, const std::string&) {
        auto response = respond(state.cluster(), &v1::UpdateClusterResponse::mutable_cluster);
        if (response) redact(*response->mutable_cluster());
        return response;
      },
      std::move(done));
}

// ---------------------------------------------------------------- nodes

void ControlApi::update_node(const Principal& principal, const v1::UpdateNodeRequest& request,
                             Callback<v1::UpdateNodeResponse> done) {
  MUSTER_WRITING(store, "muster.v1.Control.UpdateNode");
  MUSTER_OR_DONE(validate_node_spec(request.spec()));
  commit<v1::UpdateNodeResponse>(
      store, "node.update", request.request_id(),
      [this, request](store::Transaction& tx) -> Result<std::string> {
        const auto known = tx.view().get<v1::Node>(request.node_id());
        if (known == nullptr) return fail(not_found("node {} not found", request.node_id()));
        if (known->spec().desired_role() == v1::NodeSpec::MANAGER &&
            request.spec().desired_role() != v1::NodeSpec::MANAGER) {
          // By the group as it is when this is written.
          const auto group = group_view();
          MUSTER_TRY(check_demotion(tx.view(), get(group), *known));
        }
        v1::Node node = *known;
        node.mutable_meta()->set_version(request.version());
        *node.mutable_spec() = request.spec();
        MUSTER_TRY(tx.update(std::move(node)));
        return request.node_id();
      },
      [this](const store::Snapshot& state, const std::string& id) {
        auto response = respond(state.get<v1::Node>(id), &v1::UpdateNodeResponse::mutable_node);
        const auto group = group_view();
        if (response && group) {
          members::describe_manager(*response->mutable_node(), *group, members::managers_of(state));
        }
        return response;
      },
      std::move(done));
}

void ControlApi::remove_node(const Principal& principal, const v1::RemoveNodeRequest& request,
                             Callback<v1::RemoveNodeResponse> done) {
  MUSTER_WRITING(store, "muster.v1.Control.RemoveNode");
  auto node = store.snapshot().resolve<v1::Node>(request.node_id());
  if (!node) return done(fail(node.error()));
  remove_node_tasks(*std::move(node), request.force(), 0, std::move(done));
}

// Thousands of tasks do not fit one entry; the node goes with the last of them.
void ControlApi::remove_node_tasks(std::shared_ptr<const v1::Node> node, bool force, int passes,
                                   Callback<v1::RemoveNodeResponse> done) {
  if (store_ == nullptr) {
    return done(fail(Status(StatusCode::kUnavailable, "this manager stops", "not-leader")));
  }
  const auto more = std::make_shared<bool>(false);
  store_->update(
      [this, id = node->id(), force, more](store::Transaction& tx) -> Status {
        const auto known = tx.view().get<v1::Node>(id);
        if (known == nullptr) return not_found("node {} not found", id);
        const auto group = group_view();
        MUSTER_TRY(check_node_removal(get(group), *known, force));
        return remove_node_in(tx, *known, node_id(), kOrphansMax, more.get());
      },
      [this, node, force, passes, more,
       done = std::move(done)](const store::Commit& commit) mutable {
        if (!commit.status.ok()) return done(fail(commit.status));
        if (!*more) return done(v1::RemoveNodeResponse());
        if (passes == kOrphanPassesMax) {
          return done(
              fail(unavailable("node {} gets new tasks all the time: drain it first", node->id())));
        }
        remove_node_tasks(std::move(node), force, passes + 1, std::move(done));
      });
}

}  // namespace muster::manager::control
