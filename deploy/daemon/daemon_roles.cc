// What a member of a swarm does: its roles come and go with what the managers say of it.
#include <algorithm>
#include <filesystem>
#include <utility>

#include "base/check.h"
#include "base/security/key_files.h"
#include "base/security/renewal.h"
#include "deploy/daemon/daemon.h"
#include "deploy/daemon/data_path.h"
#include "deploy/daemon/host.h"
#include "deploy/daemon/manager_calls.h"
#include "deploy/daemon/run_on.h"
#include "manager/ca/admission.h"
#include "raft/storage/rocks_log_store.h"

namespace muster::daemon {
namespace {

constexpr Duration kRenewalLimit = 15s;
constexpr Duration kStartAgain = 5s;    // after a manager that did not start
constexpr Duration kJoinAgain = 2s;     // while the group does not know this member
constexpr Duration kAfterRemoval = 2s;  // so that the node hears first whether it is to come back
constexpr const char* kWorkerText =
    "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. "
    "Please run this command on a manager node or promote the current node to a manager.";
constexpr const char* kRemovedText =
    "this node was removed from the swarm: \"muster swarm leave\" makes it free to join again";
constexpr const char* kSharedText =
    "Another host takes part in the swarm as this node, so this one does not: {}. The one with the "
    "copied state has to leave (\"muster swarm leave --force\" there, which does not touch the "
    "other one) and to join anew";
// No fault: a moment later the node has another role, or is a new member.
constexpr const char* kTakenOutText =
    "This node is between two roles: it was taken out of the group of managers, and waits to hear "
    "whether it is to be a worker or to come back. Please try again in a moment.";
constexpr const char* kLockedText =
    "Swarm is encrypted and needs to be unlocked before it can be used. Please use \"muster swarm "
    "unlock\" to unlock it.";

bool empty_directory(const std::filesystem::path& path) {
  std::error_code error;
  return !std::filesystem::exists(path, error) || std::filesystem::is_empty(path, error);
}

}  // namespace

Status Daemon::enter_swarm(security::NodeCredentials credentials, NodeIdentity::Lock lock) {
  MUSTER_ASSIGN(auto tls, security::TlsIdentity::create(std::move(credentials)));
  using Lock = NodeIdentity::Lock;
  const std::filesystem::path dir = options_.data_dir / "certificates";
  NodeIdentity::Deps deps{lifecycle_,
                          rng_,
                          child_log(log_, "identity"),
                          [this](const auto& identity, WallTime now, NodeIdentity::Renewed done) {
                            renew_certificate(*manager_calls_, lifecycle_,
                                              {identity, manager_addresses(), kRenewalLimit}, now,
                                              std::move(done));
                          },
                          [dir](const security::NodeCredentials& credentials, const Lock& wrapped) {
                            return security::save_credentials(dir, credentials, wrapped);
                          },
                          [dir](const Lock& from, const Lock& to) {
                            return security::rewrap_credentials(dir, from, to);
                          },
                          [this] { certificate_changed(); },
                          [this](const std::string& why) { set_fault(why); },
                          [this](const std::string& why) { node_removed(why); },
                          [this](const std::string& request) { return sign_own(request); }};
  identity_ = std::make_unique<NodeIdentity>(std::move(deps), tls, std::move(lock));
  identity_->start();
  desired_role_known_ = false;
  std::lock_guard lock_state(mutex_);
  tls_ = std::move(tls);
  locked_ = false;
  role_error_ = identity_->manager() ? "" : kWorkerText;
  faulty_ = false;
  return ok_status();
}

void Daemon::set_role_error(std::string text) {
  std::lock_guard lock(mutex_);
  faulty_ = !text.empty();
  role_error_ = std::move(text);
}

void Daemon::set_fault(const std::string& why) {
  set_role_error(why.empty() ? why : "This node cannot take part in its swarm: " + why);
}

std::vector<std::string> Daemon::manager_addresses() const {
  std::lock_guard lock(mutex_);
  if (!state_.membership) return {};
  std::vector<std::string> out = state_.membership->managers;
  if (out.empty()) out.push_back(state_.membership->advertise_addr);
  return out;
}

Status Daemon::save_state() {
  return save_node_state(options_.data_dir, state_);
}

bool Daemon::log_missing() const {
  return state_.membership->log_begun && empty_directory(options_.data_dir / "raft");
}

// ------------------------------------------------------------ the manager

void Daemon::reconcile_later(Duration wait) {
  lifecycle_.cancel(reconcile_timer_);
  reconcile_timer_ = lifecycle_.after(wait, [this] {
    reconcile_timer_ = 0;
    reconcile();
  });
}

void Daemon::reconcile() {
  MUSTER_CHECK(lifecycle_.is_current());
  lifecycle_.cancel(std::exchange(reconcile_timer_, 0));
  if (stopped_ || !state_.membership || locked_ || identity_ == nullptr) return;
  if (state_.membership->removed || !shared_.empty()) return;
  if (!identity_->manager()) {
    // The role is a worker's only when the node is out of the group: its log is of no use.
    if (manager_ != nullptr) stop_manager("this node is no manager any more");
    if (state_.membership->member_id != 0) forget_log();
    std::lock_guard lock(mutex_);
    role_error_ = kWorkerText;
    faulty_ = false;
    return;
  }
  if (manager_ == nullptr) {
    // One that was taken out of the group comes back only when it is wanted.
    const bool fresh = state_.membership->member_id == 0;
    if (fresh && desired_role_known_ && desired_role_ != v1::NodeSpec::MANAGER) return;
    if (answers_as_self(identity_->tls(), state_.membership->advertise_addr)) {
      return take_no_part(fmt::format("a manager with this node's identity answers at {}",
                                      state_.membership->advertise_addr));
    }
    Status started = start_manager(ReplicaStart::kRestore);
    if (started.code() == StatusCode::kDataLoss && set_log_aside(started)) {
      started = start_manager(ReplicaStart::kRestore);
    }
    if (!started.ok()) return manager_failed(started);
  }
  if (!manager_->in_group()) return join_group();
  manager_->keep_copy();
  const WallTime now = lifecycle_.clock().wall_now();
  if (security::check_validity(identity_->tls()->current()->facts, now).ok()) set_role_error({});
}

// Two with one identity must not both vote, or write what the other one has written. It is final
// until musterd is started anew, even if the other one goes: only people know which is which.
void Daemon::take_no_part(const std::string& why) {
  shared_ = fmt::format(fmt::runtime(kSharedText), why);
  log_->error("{}", shared_);
  stop_manager("another host takes part as this node");
  set_role_error(shared_);
}

// What the managers say to this node's agent.
void Daemon::identity_shared(const std::string& why) {
  if (identity_ == nullptr || !state_.membership) return;
  if (why.empty()) {
    // A worker's session is its own again. Whoever took no part as a manager has none.
    if (std::exchange(shared_, {}).empty()) return;
    set_role_error({});
    return reconcile();
  }
  const auto agent = this->agent();
  // A member that hears a leader is the one that the group reaches. The other one is mute.
  const bool member = manager_ != nullptr && led();
  if (identity_->manager() && !member) {
    take_no_part(why);
    // The managers know by now; nothing of it is to come when the other one is away.
    if (agent != nullptr) agent->stop(v1::Goodbye::RESTART);
    return;
  }
  shared_ = fmt::format(fmt::runtime(kSharedText), why);
  set_role_error(shared_);
}

void Daemon::manager_failed(const Status& why) {
  log_->error("this node cannot take part in its swarm as a manager: {}", why.message());
  if (why.reason() == "locked" || why.reason() == "wrong-unlock-key") {
    std::lock_guard lock(mutex_);
    locked_ = true;
    role_error_ = kLockedText;
    return;
  }
  // The node stays reachable and says what is wrong; its containers are not touched.
  set_fault(why.reason() == "log-corrupt"
                ? why.message() +
                      "; it is the swarm's only manager: restore a backup (muster swarm "
                      "leave --force, muster swarm restore)"
                : why.message());
  // What is damaged does not mend itself; an address in use may be free later.
  if (why.code() == StatusCode::kUnavailable) reconcile_later(kStartAgain);
}

Status Daemon::start_manager(ReplicaStart start, BackupState state) {
  Membership& membership = *state_.membership;
  // A group that is founded counts only once it is there: nothing is saved before.
  const bool founding = start != ReplicaStart::kRestore && start != ReplicaStart::kForce;
  const bool lost = log_missing();
  if (lost) {
    log_->error(
        "the log of this manager is gone from {}: it joins the others anew, as a new member",
        (options_.data_dir / "raft").string());
  }
  if (membership.member_id == 0 || lost) {
    std::error_code ignored;
    std::filesystem::remove_all(options_.data_dir / "raft", ignored);
    {
      std::lock_guard lock(mutex_);
      do membership.member_id = rng_.next();
      while (membership.member_id == 0);
      membership.log_begun = false;
    }
    if (!founding) MUSTER_TRY(save_state());
  }
  ManagerConfig config;
  config.data_dir = options_.data_dir;
  config.membership = membership;
  config.identity = identity_->tls();
  config.lock = log_key_ ? log_key_ : identity_->lock();
  config.start = start;
  config.state = std::move(state);
  config.left_group = [this, member = membership.member_id] {
    lifecycle_.post([this, member] { left_group(member); });
  };
  MUSTER_ASSIGN(auto opened, ManagerRole::open({main_loop_, logs_strand_, rng_, api_, channels_,
                                                reachability_, log_},
                                               std::move(config)));
  const std::shared_ptr<ManagerRole> manager = std::move(opened);
  if (!std::exchange(membership.log_begun, true) && !founding) MUSTER_TRY(save_state());
  MUSTER_TRY(manager->start());
  std::lock_guard lock(mutex_);
  manager_ = manager;
  role_error_.clear();
  faulty_ = false;
  log_key_.reset();
  return ok_status();
}

// A member that has lost what it promised must not vote again. Where there are others it comes back
// as a new one, by their copy; the last one keeps what it has for whoever can mend it.
bool Daemon::set_log_aside(const Status& why) {
  std::vector<std::string> others = manager_addresses();
  std::erase(others, state_.membership->advertise_addr);
  if (others.empty()) return false;
  const auto aside = raft::set_log_aside(options_.data_dir / "raft");
  if (!aside) {
    log_->error("{}", aside.error().message());
    return false;
  }
  log_->error("the log is damaged and lies in {} now; this manager joins the others anew: {}",
              aside->string(), why.message());
  forget_log();
  return true;
}

void Daemon::stop_manager(const std::string& reason) {
  std::shared_ptr<ManagerRole> manager;
  {
    std::lock_guard lock(mutex_);
    manager.swap(manager_);
  }
  if (manager != nullptr) manager->stop(reason);
}

void Daemon::forget_log() {
  log_key_.reset();
  std::error_code ignored;
  std::filesystem::remove_all(options_.data_dir / "raft", ignored);
  {
    std::lock_guard lock(mutex_);
    state_.membership->member_id = 0;
    state_.membership->log_begun = false;
  }
  if (const Status saved = save_state(); !saved.ok()) log_->error("{}", saved.message());
}

// Managers took this member out, for good: with another life it may come back. What its own log
// says of the group counts for nothing: one that was away then is in the list it has.
void Daemon::left_group(uint64_t member_id) {
  if (manager_ == nullptr || !state_.membership) return;
  if (state_.membership->member_id != member_id) return;  // of a manager before this one
  log_->info("this node was taken out of the group of managers");
  stop_manager("this node is no manager any more");
  forget_log();
  {
    std::lock_guard lock(mutex_);
    role_error_ = kTakenOutText;
    faulty_ = false;
  }
  reconcile_later(kAfterRemoval);
}

// Whether it hears a leader, or has no reason to miss one.
bool Daemon::led() const {
  if (manager_ == nullptr || !manager_->in_group()) return true;
  return bool(manager_->group().leader);
}

void Daemon::watch_outside(const v1::ClusterFeed& feed) {
  const auto& managers = feed.manager_addrs();
  const bool listed = std::find(managers.begin(), managers.end(),
                                state_.membership->advertise_addr) != managers.end();
  const uint64_t member_id = state_.membership->member_id;
  switch (outside_.heard(listed, led(), lifecycle_.clock().now())) {
    case OutsideWatch::Verdict::kInside: return;
    case OutsideWatch::Verdict::kLook:
      lifecycle_.after(OutsideWatch::kPatience, [this, member_id] { hear_anew(member_id); });
      return;
    case OutsideWatch::Verdict::kOutside: return left_group(member_id);
  }
}

// A session that begins is told everything, who the managers are included.
void Daemon::hear_anew(uint64_t member_id) {
  if (identity_ == nullptr || !state_.membership || state_.membership->member_id != member_id)
    return;
  if (!outside_.look(led())) return;
  log_->warn("the managers do not list this one, and it hears of no leader: it asks them again");
  if (const auto agent = this->agent()) {
    agent->certificate_renewed(describe_identity(*identity_->tls()->current()));
  }
}

// Asks until the group knows this member; from then on the group is asked nothing.
void Daemon::join_group() {
  if (std::exchange(joining_group_, true)) return;
  v1::JoinMemberRequest request;
  request.set_member_id(state_.membership->member_id);
  request.set_address(state_.membership->advertise_addr);
  Managers managers{identity_->tls(), manager_addresses(), 10s};
  std::erase(managers.addresses, state_.membership->advertise_addr);
  const bool queued = manager_calls_->post([this, managers, request] {
    const auto joined = muster::daemon::join_group(managers, request);
    const Status status = joined ? ok_status() : joined.error();
    lifecycle_.post([this, status] { group_joined(status); });
  });
  if (queued) return;
  joining_group_ = false;
  reconcile_later(kJoinAgain);
}

void Daemon::group_joined(const Status& status) {
  joining_group_ = false;
  if (manager_ == nullptr || manager_->in_group()) return reconcile();
  if (!status.ok()) {
    log_->warn("the group of managers does not take this node in yet: {}", status.message());
    set_fault(status.message());
  }
  reconcile_later(kJoinAgain);
}

// ------------------------------------------------------------ the agent

// The host as it is at the moment.
v1::NodeDescription Daemon::describe(const Membership& membership) const {
  v1::NodeDescription out = description_;
  *out.mutable_data_path() = describe_data_path(membership, log_);
  out.set_no_encryption(describe_no_encryption(membership, parts_->encryption));
  out.clear_local_ranges();
  const auto ranges = host_ranges(state_.instance_id, log_);
  if (!ranges) log_->warn("the routes of this host are not known: {}", ranges.error().message());
  if (ranges) out.mutable_local_ranges()->Assign(ranges->begin(), ranges->end());
  return out;
}

AgentConfig Daemon::agent_config() {
  AgentConfig config;
  config.instance_id = state_.instance_id;
  config.data_dir = options_.data_dir;
  config.run_dir = options_.run_dir / state_.instance_id;
  if (state_.membership) config.membership = *state_.membership;
  config.managers = manager_addresses();
  config.description = describe(config.membership);
  config.default_log_driver = default_log_driver_;
  config.credentials = [this] {
    const auto identity = tls();
    return identity == nullptr ? security::NodeCredentials() : identity->current()->credentials;
  };
  if (const auto identity = tls()) {
    *config.description.mutable_tls() = describe_identity(*identity->current());
  }
  config.events.cluster_changed = [this](const v1::ClusterFeed& feed) {
    lifecycle_.post([this, feed] { heard(feed); });
  };
  config.events.managers_known = [this](const std::vector<std::string>& addresses) {
    lifecycle_.post([this, addresses] { managers_known(addresses); });
  };
  config.events.certificate_outdated = [this](const std::string& why) {
    lifecycle_.post([this, why] {
      if (identity_ != nullptr) identity_->renew_soon(why);
    });
  };
  config.events.identity_shared = [this](const std::string& why) {
    lifecycle_.post([this, why] { identity_shared(why); });
  };
  config.events.no_session = [this](const std::string& why) {
    std::lock_guard lock(mutex_);
    alone_ = why;
  };
  config.events.node_removed = [this](const std::string& why) {
    lifecycle_.post([this, why] { node_removed(why); });
  };
  return config;
}

// With `connect` false it keeps its containers and asks nobody for more.
Status Daemon::start_agent(bool connect) {
  const auto agent = std::make_shared<AgentRole>(
      AgentDeps{agent_strand_, rng_, *parts_, log_, repairs_}, agent_config());
  {
    std::lock_guard lock(mutex_);
    alone_.clear();
  }
  MUSTER_TRY(connect ? agent->start() : agent->start_alone());
  std::lock_guard lock(mutex_);
  agent_ = agent;
  return ok_status();
}

void Daemon::heard(const v1::ClusterFeed& feed) {
  if (identity_ == nullptr || !state_.membership) return;
  if (feed.has_self()) {
    const bool changed = !desired_role_known_ || desired_role_ != feed.self().spec().desired_role();
    desired_role_ = feed.self().spec().desired_role();
    desired_role_known_ = true;
    if (changed) reconcile_later(Duration(0));
  }
  data_path_known(feed.data_path_port());
  watch_outside(feed);
  identity_->heard(feed);
  if (feed.has_self()) {
    follow_lock(feed.self().role() == v1::NodeSpec::MANAGER ? feed.unlock_key() : std::string());
  }
}

// Managers' keys are wrapped as the managers say, a worker's are not.
void Daemon::follow_lock(const std::string& unlock_key) {
  NodeIdentity::Lock lock;
  if (!unlock_key.empty()) {
    auto key = security::UnlockKey::parse(unlock_key);
    if (!key) return log_->error("the managers sent an unlock key that is none");
    lock = *std::move(key);
  }
  if (lock == identity_->lock()) return;
  // The log first: if this is cut off between the two, the key of before opens the certificate, and
  // with that the node hears of the new one.
  if (manager_ != nullptr) {
    if (const Status status = manager_->set_lock(lock); !status.ok()) {
      return log_->error("the log's keys could not be wrapped anew: {}", status.message());
    }
  }
  if (const Status status = identity_->set_lock(lock); !status.ok()) {
    return log_->error("the node's key could not be wrapped anew: {}", status.message());
  }
  log_->info(lock ? "the keys on disk are wrapped with the swarm's unlock key"
                  : "the keys on disk are not wrapped any more");
  if (manager_ != nullptr) return;
  // The log may have been wrapped with this key before, and be what the node waits to be unlocked.
  log_key_.reset();
  {
    std::lock_guard guard(mutex_);
    locked_ = false;
  }
  reconcile_later(Duration(0));
}

// For the next start, when nobody may be there to tell it.
void Daemon::data_path_known(uint32_t port) {
  if (port == 0 || state_.membership->data_path_port == port) return;
  {
    std::lock_guard lock(mutex_);
    state_.membership->data_path_port = port;
  }
  if (const Status saved = save_state(); !saved.ok()) log_->error("{}", saved.message());
}

void Daemon::managers_known(const std::vector<std::string>& addresses) {
  if (!state_.membership || state_.membership->managers == addresses) return;
  {
    std::lock_guard lock(mutex_);
    state_.membership->managers = addresses;
  }
  if (const Status saved = save_state(); !saved.ok()) log_->error("{}", saved.message());
}

void Daemon::certificate_changed() {
  if (const auto agent = this->agent()) {
    agent->certificate_renewed(describe_identity(*identity_->tls()->current()));
  }
  lifecycle_.post([this] { reconcile(); });
}

void Daemon::node_removed(const std::string& why) {
  if (!state_.membership || state_.membership->removed) return;
  log_->error("this node was removed from the swarm: {}", why);
  stop_manager("this node was removed from the swarm");
  {
    std::lock_guard lock(mutex_);
    state_.membership->removed = true;
  }
  forget_log();  // saves
  set_role_error(kRemovedText);
}

// ------------------------------------------------------------ at start and end

Status Daemon::resume() {
  const std::filesystem::path dir = options_.data_dir / "certificates";
  if (state_.membership->removed) {
    set_role_error(kRemovedText);
    MUSTER_TRY(start_agent(false));
    agent()->end_tasks();  // it was told to, and may have been cut off
    return ok_status();
  }
  auto credentials = security::load_credentials(dir);
  if (!credentials && credentials.error().reason() == "locked") {
    {
      std::lock_guard lock(mutex_);
      locked_ = true;
      role_error_ = kLockedText;
    }
    log_->warn("the keys of this manager are locked: it waits for \"muster swarm unlock\"");
    return start_agent(false);
  }
  MUSTER_TRY(credentials ? ok_status() : credentials.error());
  MUSTER_TRY(enter_swarm(*std::move(credentials), std::nullopt));
  reconcile();
  MUSTER_TRY(start_agent(true));
  // Nobody will talk to it, but it goes on trying: the clock may be what is wrong. A manager helps
  // itself as soon as it has the swarm's state. Said here, on the strand, before that is over.
  const Status valid =
      security::check_validity(identity_->tls()->current()->facts, lifecycle_.clock().wall_now());
  if (!valid.ok()) {
    log_->error("this node cannot take part in its swarm: {}", valid.message());
    set_fault(valid.message());
  }
  return ok_status();
}

// As the leader would, but by this manager's own copy of the state, which may be behind: whoever
// knows better refuses what it should not have signed (control/standing.h).
Result<v1::IssueCertificateResponse> Daemon::sign_own(const std::string& signing_request_pem) {
  if (manager_ == nullptr || !state_.membership) return fail(unavailable("its log is not open"));
  const manager::store::Snapshot view = manager_->snapshot();
  return manager::ca::sign_own(view, state_.membership->node_id, signing_request_pem,
                               lifecycle_.clock().wall_now());
}

void Daemon::drop_roles(const std::string& reason, v1::Goodbye::Reason goodbye) {
  lifecycle_.cancel(std::exchange(reconcile_timer_, 0));
  std::shared_ptr<ManagerRole> manager;
  std::shared_ptr<AgentRole> agent;
  {
    std::lock_guard lock(mutex_);
    manager.swap(manager_);
    agent.swap(agent_);
  }
  // The swarm goes on without this leader before the agent takes its time to say goodbye.
  if (manager != nullptr) manager->hand_over();
  if (agent != nullptr) agent->stop(goodbye);
  if (manager != nullptr) manager->stop(reason);
  agent.reset();
  identity_.reset();
  std::lock_guard lock(mutex_);
  tls_.reset();
}

}  // namespace muster::daemon
