// Cluster life as users ask for it: init, join, leave, unlock, backup, restore.
#include <algorithm>
#include <filesystem>
#include <utility>

#include "base/security/x509.h"
#include "deploy/daemon/address_pools.h"
#include "deploy/daemon/cluster_start.h"
#include "deploy/daemon/daemon.h"
#include "deploy/daemon/data_path.h"
#include "deploy/daemon/host.h"
#include "deploy/daemon/manager_calls.h"
#include "deploy/daemon/run_on.h"
#include "manager/ca/grpc/ca_client.h"
#include "manager/ca/root.h"
#include "manager/control/cluster_objects.h"

namespace muster::daemon {
namespace {

using manager::control::Callback;

constexpr uint16_t kControlPort = 2377;
constexpr Duration kJoinCall = 10s;
constexpr Duration kJoinLimit = 20s;  // to be a manager that counts
constexpr Duration kLeaveGroup = 5s;
constexpr const char* kAlreadyMember =
    "This node is already part of a swarm. Use \"muster swarm leave\" to leave this swarm and join "
    "another one.";

std::string with_port(const std::string& address) {
  const size_t colon = address.rfind(':');
  const bool port = colon != std::string::npos && address.find(']', colon) == std::string::npos &&
                    (address.starts_with('[') || address.find(':') == colon);
  if (port) return address;
  const bool bare_ipv6 = address.find(':') != std::string::npos && !address.starts_with('[');
  return fmt::format("{}:{}", bare_ipv6 ? "[" + address + "]" : address, kControlPort);
}

}  // namespace

template <class T>
void Daemon::answer(UniqueFunction<Result<T>()> work, Callback<T> done) {
  lifecycle_.post([this, work = std::move(work), done = std::move(done)]() mutable {
    main_loop_.post([done = std::move(done),
                     result = stopped_ ? fail(unavailable("musterd stops")) : work()]() mutable {
      done(std::move(result));
    });
  });
}

Result<Membership> Daemon::new_membership(const std::string& listen, const std::string& advertise,
                                          const std::string& data_path) const {
  Membership membership;
  MUSTER_ASSIGN(membership.listen_addr, find_listen_address(listen, kControlPort));
  const size_t colon = membership.listen_addr.rfind(':');
  const auto port = static_cast<uint16_t>(std::stoi(membership.listen_addr.substr(colon + 1)));
  MUSTER_ASSIGN(membership.advertise_addr,
                find_advertise_address(
                    advertise.empty() ? membership.listen_addr.substr(0, colon) : advertise, port));
  if (!data_path.empty()) {
    MUSTER_ASSIGN(membership.data_path_addr, find_data_path_address(data_path));
  }
  return membership;
}

Status Daemon::found(const Membership& membership, security::NodeCredentials credentials,
                     const NodeIdentity::Lock& lock, ReplicaStart start, BackupState state,
                     const std::function<Status(ManagerRole&)>& fill) {
  // Nothing counts until node.json names the membership: what an attempt that was cut off left
  // behind is swept away here.
  remove_swarm_files();
  MUSTER_TRY(security::save_credentials(options_.data_dir / "certificates", credentials, lock));
  {
    std::lock_guard guard(mutex_);
    state_.membership = membership;
    state_.membership->managers = {membership.advertise_addr};
  }
  Status done = enter_swarm(std::move(credentials), lock);
  if (done.ok()) done = start_manager(start, std::move(state));
  if (done.ok()) done = fill(*manager_);
  if (done.ok()) done = save_state();
  if (done.ok()) done = start_agent(true);
  if (!done.ok()) {
    drop_roles("the swarm could not be founded", v1::Goodbye::RESTART);
    forget_swarm();
  }
  return done;
}

void Daemon::forget_swarm() {
  {
    std::lock_guard lock(mutex_);
    state_.membership.reset();
    role_error_.clear();
    faulty_ = locked_ = false;
  }
  shared_.clear();
  log_key_.reset();
  if (const Status saved = save_state(); !saved.ok()) log_->error("{}", saved.message());
  remove_swarm_files();
}

// ------------------------------------------------------------ init

void Daemon::init_swarm(const v1::InitSwarmRequest& request, Callback<v1::InitSwarmResponse> done) {
  answer<v1::InitSwarmResponse>(
      [this, request] { return request.force_new_cluster() ? force_new_cluster() : init(request); },
      std::move(done));
}

Result<v1::InitSwarmResponse> Daemon::init(const v1::InitSwarmRequest& request) {
  if (state_.membership) return fail(unavailable("{}", kAlreadyMember));
  MUSTER_TRY(check_address_pools(
      {request.default_address_pools().begin(), request.default_address_pools().end()},
      request.subnet_mask_bits()));
  MUSTER_TRY(check_data_path_port(request.data_path_port()));
  MUSTER_TRY(manager::control::check_encryption_port(request.spec().encryption(),
                                                     request.data_path_port()));
  MUSTER_ASSIGN(
      Membership membership,
      new_membership(request.listen_addr(), request.advertise_addr(), request.data_path_addr()));
  membership.data_path_port = request.data_path_port();
  membership.node_id = rng_.id();
  membership.cluster_id = rng_.id();

  const WallTime now = main_loop_.clock().wall_now();
  MUSTER_ASSIGN(const security::CertificateAndKey root,
                manager::ca::choose_root(request.ca_certificate_pem(), request.ca_key_pem(), now));
  MUSTER_ASSIGN(manager::control::NewCluster cluster,
                new_cluster(request, membership.cluster_id, root));
  MUSTER_ASSIGN(security::NodeCredentials credentials,
                issue_own_credentials(root, membership, certificate_validity(cluster.spec), now));
  NodeIdentity::Lock lock;
  if (request.spec().autolock()) {
    lock = security::UnlockKey::generate();
    cluster.unlock_key = lock->str();
  }
  const v1::Node self = own_node(membership, request.availability(), describe(membership));
  MUSTER_TRY(found(membership, std::move(credentials), lock, ReplicaStart::kFound, {},
                   [&](ManagerRole& manager) { return manager.bootstrap(cluster, self); }));
  log_->info("swarm {} initialised; this is node {}", membership.cluster_id, membership.node_id);
  v1::InitSwarmResponse response;
  response.set_node_id(membership.node_id);
  response.set_manager_addr(membership.advertise_addr);
  response.set_unlock_key(cluster.unlock_key);
  *response.mutable_join_tokens() = cluster.root_ca.join_tokens();
  return response;
}

// The others are lost for good: this manager goes on alone with what it has.
Result<v1::InitSwarmResponse> Daemon::force_new_cluster() {
  if (!state_.membership) return fail(unavailable("This node is not part of a swarm"));
  if (locked_) return fail(unavailable("{}", role_error()));
  if (identity_ == nullptr || !identity_->manager() || state_.membership->member_id == 0) {
    return fail(unavailable("{}", role_error().empty()
                                      ? "This node is not participating as a Swarm manager"
                                      : role_error()));
  }
  // The others are not lost: they have this manager, and it is another host.
  if (!shared_.empty()) return fail(unavailable("{}", shared_));
  // One that waits to be let in has an empty log, and would found an empty swarm.
  if (log_missing() || (manager_ != nullptr && !manager_->in_group())) {
    return fail(failed_precondition(
        "this manager has no copy of the swarm's state: force a new cluster on another manager, or "
        "restore a backup (muster swarm restore)"));
  }
  stop_manager("this node starts a new cluster");
  Status done = start_manager(ReplicaStart::kForce);
  if (done.ok()) {
    done = manager_->take_over(
        own_node(*state_.membership, v1::NodeSpec::ACTIVE, describe(*state_.membership)));
  }
  if (!done.ok()) {
    manager_failed(done);
    return fail(done);
  }
  log_->warn("this node is the only manager of swarm {} now", state_.membership->cluster_id);
  v1::InitSwarmResponse response;
  response.set_node_id(state_.membership->node_id);
  response.set_manager_addr(state_.membership->advertise_addr);
  if (const auto cluster = manager_->snapshot().cluster()) {
    *response.mutable_join_tokens() = cluster->root_ca().join_tokens();
  }
  return response;
}

// ------------------------------------------------------------ join

void Daemon::join_swarm(const v1::JoinSwarmRequest& request, Callback<v1::JoinSwarmResponse> done) {
  answer<v1::JoinSwarmResponse>([this, request] { return join(request); }, std::move(done));
}

Result<v1::JoinSwarmResponse> Daemon::join(const v1::JoinSwarmRequest& request) {
  if (state_.membership) return fail(unavailable("{}", kAlreadyMember));
  if (request.remote_addrs().empty()) {
    return fail(invalid_argument("at least 1 RemoteAddr is required to join"));
  }
  MUSTER_ASSIGN(
      Membership membership,
      new_membership(request.listen_addr(), request.advertise_addr(), request.data_path_addr()));
  manager::ca::JoinRequest join;
  for (const std::string& address : request.remote_addrs()) {
    join.addresses.push_back(with_port(address));
  }
  join.join_token = request.join_token();
  join.availability = request.availability();
  join.hostname = description_.hostname();
  join.advertise_address = membership.advertise_addr;
  const auto ask = [&]() -> Result<manager::ca::Issued> {
    MUSTER_ASSIGN(join.key_pem, join_key_.take(join.join_token));
    return manager::ca::join_swarm(join, main_loop_.clock().wall_now(), kJoinCall);
  };
  auto answer = ask();
  while (!answer && join_key_.ended(answer.error())) answer = ask();
  if (!answer) {
    const Status& why = answer.error();
    // With a reason it is not mistaken for this musterd's own silence.
    return fail(why.code(), why.message(), why.reason().empty() ? "join-failed" : why.reason());
  }
  manager::ca::Issued issued = *std::move(answer);
  membership.node_id = issued.node_id;
  membership.cluster_id = issued.cluster_id;
  // Managers may be reached by other addresses than those they tell.
  membership.managers = issued.manager_addrs;
  for (const std::string& address : join.addresses) {
    auto& known = membership.managers;
    if (std::find(known.begin(), known.end(), address) == known.end()) known.push_back(address);
  }
  security::NodeCredentials credentials = std::move(issued.credentials);

  remove_swarm_files();
  // Under autolock wrapped from the first: a manager's keys never lie on disk as they are.
  MUSTER_TRY(
      security::save_credentials(options_.data_dir / "certificates", credentials, issued.lock));
  {
    std::lock_guard lock(mutex_);
    state_.membership = membership;
  }
  // From here on a restart goes on where this one stops.
  Status done = save_state();
  if (done.ok()) done = enter_swarm(std::move(credentials), issued.lock);
  if (done.ok() && identity_->manager()) done = await_membership();
  // The unlock key may be another one by now.
  if (done.ok() && manager_ != nullptr) {
    if (const auto cluster = manager_->snapshot().cluster()) follow_lock(cluster->unlock_key());
  }
  if (done.ok()) done = start_agent(true);
  if (!done.ok()) {
    withdraw();
    drop_roles("the swarm could not be joined", v1::Goodbye::LEAVE);
    forget_swarm();
    return fail(done);
  }
  // Not before: a disk that is full now is not so next time, and then it is the same node.
  join_key_.ended(ok_status());
  log_->info("joined swarm {} as node {}", membership.cluster_id, membership.node_id);
  v1::JoinSwarmResponse response;
  response.set_node_id(membership.node_id);
  response.set_manager(identity_->manager());
  return response;
}

// What did not come in is not to be shown as a node that is down.
void Daemon::withdraw() {
  if (identity_ == nullptr || !identity_->manager()) return;
  Managers managers{identity_->tls(), manager_addresses(), kLeaveGroup};
  std::erase(managers.addresses, state_.membership->advertise_addr);
  if (const Status gone = withdraw_node(managers, state_.membership->node_id); !gone.ok()) {
    log_->warn("the swarm still lists this node as {}: {}", state_.membership->node_id,
               gone.message());
  }
}

// Starts the manager of a node that has just got a manager's certificate, and waits until it
// counts.
Status Daemon::await_membership() {
  MUSTER_TRY(start_manager(ReplicaStart::kRestore));
  v1::JoinMemberRequest request;
  request.set_member_id(state_.membership->member_id);
  request.set_address(state_.membership->advertise_addr);
  Managers managers{identity_->tls(), manager_addresses(), kJoinLimit};
  std::erase(managers.addresses, state_.membership->advertise_addr);
  const auto joined = muster::daemon::join_group(managers, request);
  if (!joined) return joined.error();
  // It is in; until it has caught up it goes on by itself.
  if (!manager_->await_vote(kJoinLimit)) {
    log_->warn("this manager has not caught up with the others yet");
  }
  return ok_status();
}

// ------------------------------------------------------------ leave

void Daemon::leave_swarm(const v1::LeaveSwarmRequest& request,
                         Callback<v1::LeaveSwarmResponse> done) {
  answer<v1::LeaveSwarmResponse>(
      [this, force = request.force()]() -> Result<v1::LeaveSwarmResponse> {
        MUSTER_TRY(leave(force));
        return v1::LeaveSwarmResponse();
      },
      std::move(done));
}

// Why a manager should not leave just so, in Swarm's words.
Status Daemon::may_leave() const {
  const bool manager = state_.membership->member_id != 0 ||
                       (identity_ != nullptr && identity_->manager()) || locked_;
  if (!manager) return ok_status();
  std::string text =
      "You are attempting to leave the swarm on a node that is participating as a manager. ";
  if (manager_ != nullptr) {
    const raft::GroupView view = manager_->group();
    size_t reachable = 0;
    for (const auto& member : view.members) {
      reachable += member.member.id == view.self || (view.leader && member.reachable) ? 1 : 0;
    }
    const size_t all = view.members.size();
    if (all <= 1) {
      return unavailable(
          "{}Removing the last manager erases all current state of the swarm. Use `--force` to "
          "ignore this message.",
          text);
    }
    if (reachable == 0 || reachable - 1 < all / 2 + 1) {
      text += fmt::format(
          "Removing this node leaves {} managers out of {}. Without a Raft quorum your swarm will "
          "be inaccessible. ",
          reachable == 0 ? 0 : reachable - 1, all);
    }
  } else {
    text += "Doing so may lose the consensus of your cluster. ";
  }
  return unavailable(
      "{}The only way to restore a swarm that has lost consensus is to reinitialize it with "
      "`--force-new-cluster`. Use `--force` to suppress this message.",
      text);
}

Status Daemon::leave(bool force) {
  if (!state_.membership) return unavailable("This node is not part of a swarm");
  if (!force) MUSTER_TRY(may_leave());
  const auto agent = this->agent();
  // While the session stands: managers end that of a node whose role changes, and would take one
  // that left without a word for one that may come back.
  if (agent != nullptr) agent->stop(v1::Goodbye::LEAVE);
  // Out of the group in good order where the others agree; a forced leave does not wait for them.
  // A copy of somebody's state has no place there to give up.
  if (manager_ != nullptr && manager_->group().members.size() > 1 && shared_.empty()) {
    v1::LeaveMemberRequest request;
    request.set_member_id(state_.membership->member_id);
    const Status left = leave_group({identity_->tls(), manager_addresses(), kLeaveGroup}, request);
    if (!left.ok()) log_->warn("left without the other managers' consent: {}", left.message());
  }
  drop_roles("the node leaves the swarm", v1::Goodbye::LEAVE);
  const Status emptied = agent == nullptr ? end_left_containers() : agent->leave();
  forget_swarm();
  MUSTER_TRY(emptied);
  end_names();
  MUSTER_TRY(parts_->runtime->teardown());
  MUSTER_TRY(parts_->network->teardown());
  log_->info("left the swarm");
  return ok_status();
}

// ------------------------------------------------------------ unlock

void Daemon::unlock_swarm(const v1::UnlockSwarmRequest& request,
                          Callback<v1::UnlockSwarmResponse> done) {
  answer<v1::UnlockSwarmResponse>(
      [this, key = request.unlock_key()]() -> Result<v1::UnlockSwarmResponse> {
        MUSTER_TRY(unlock(key));
        return v1::UnlockSwarmResponse();
      },
      std::move(done));
}

Status Daemon::unlock(const std::string& text) {
  if (!state_.membership) return unavailable("This node is not part of a swarm");
  if (!locked_) return Status(StatusCode::kAlreadyExists, "swarm is not locked", "not-locked");
  MUSTER_ASSIGN(const security::UnlockKey key, security::UnlockKey::parse(text));
  // The certificate may be open already, when only the log's keys were wrapped with another key.
  const bool certificate = identity_ == nullptr;
  if (certificate) {
    MUSTER_ASSIGN(auto credentials,
                  security::load_credentials(options_.data_dir / "certificates", key));
    MUSTER_TRY(enter_swarm(std::move(credentials), key));
  }
  log_key_ = key;
  {
    std::lock_guard lock(mutex_);
    locked_ = false;
    role_error_.clear();
  }
  reconcile();
  if (locked_ && !certificate) return security::wrong_unlock_key();
  if (!shared_.empty()) return Status(StatusCode::kFailedPrecondition, shared_, "identity-in-use");
  if (const auto agent = this->agent()) {
    agent->connect(describe_identity(*identity_->tls()->current()));
  } else {
    MUSTER_TRY(start_agent(true));
  }
  log_->info("unlocked");
  return ok_status();
}

// ------------------------------------------------------------ what the control API asks

std::string Daemon::node_id() const {
  std::lock_guard lock(mutex_);
  return state_.membership ? state_.membership->node_id : std::string();
}

Result<std::string> Daemon::new_join_token(const v1::Cluster& cluster) {
  return manager::ca::new_join_token(cluster.root_ca());
}

std::string Daemon::role_error() const {
  std::lock_guard lock(mutex_);
  return role_error_;
}

}  // namespace muster::daemon
