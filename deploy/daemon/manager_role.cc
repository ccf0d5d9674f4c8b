#include "deploy/daemon/manager_role.h"

#include <grpcpp/server_builder.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <utility>

#include "base/security/access.h"
#include "base/security/tls/credentials.h"
#include "deploy/daemon/host_probe.h"
#include "deploy/daemon/run_on.h"
#include "manager/allocator/allocator.h"
#include "manager/ca/admission.h"
#include "manager/ca/authority.h"
#include "manager/ca/grpc/ca_service.h"
#include "manager/control/call_gate.h"
#include "manager/control/grpc/control_service.h"
#include "manager/dispatcher/dispatcher.h"
#include "manager/dispatcher/grpc/dispatcher_service.h"
#include "manager/drainer/drainer.h"
#include "manager/examiner/grpc/examine_call.h"
#include "manager/leader/leader_parts.h"
#include "manager/logs/grpc/log_services.h"
#include "manager/members/group_facts.h"
#include "manager/members/grpc/membership_service.h"
#include "manager/members/member_keeper.h"
#include "manager/members/membership.h"
#include "manager/network_keys/key_keeper.h"
#include "manager/orchestrator/orchestrator.h"
#include "manager/orchestrator/scheduling_loop.h"

namespace muster::daemon {
namespace {

using namespace muster::manager;  // NOLINT: this file wires all of them together

constexpr Duration kFirstWrite = 20s;
constexpr Duration kHandOver = 1s;
constexpr Duration kStopLimit = 5s;

uint16_t port_of(const std::string& address) {
  return static_cast<uint16_t>(std::stoi(address.substr(address.rfind(':') + 1)));
}

// Log subscriptions go to the nodes by their sessions, which live on the main strand.
class SessionMessenger final : public logs::AgentMessenger {
 public:
  SessionMessenger(Executor& strand, dispatcher::Dispatcher& dispatcher)
      : strand_(strand), dispatcher_(std::make_shared<dispatcher::Dispatcher*>(&dispatcher)) {}
  ~SessionMessenger() override { *dispatcher_ = nullptr; }  // on the main strand

  void send(const std::string& node_id, const v1::ManagerMessage& message) override {
    strand_.post([cell = dispatcher_, node_id, message] {
      if (*cell != nullptr) (*cell)->send(node_id, message);
    });
  }

 private:
  Executor& strand_;
  std::shared_ptr<dispatcher::Dispatcher*> dispatcher_;
};

// Examinations live on the main strand, as sessions do.
class ExaminerSessions final : public examiner::NodeSessions {
 public:
  explicit ExaminerSessions(dispatcher::Dispatcher& dispatcher) : dispatcher_(dispatcher) {}
  std::set<std::string> nodes() const override { return dispatcher_.nodes_with_session(); }
  void send(const std::string& node_id, const v1::ManagerMessage& message) override {
    dispatcher_.send(node_id, message);
  }

 private:
  dispatcher::Dispatcher& dispatcher_;
};

ReplicaOptions replica_options(const ManagerDeps& deps, const ManagerConfig& config) {
  ReplicaOptions options;
  options.dir = config.data_dir / "raft";
  options.identity = {config.membership.cluster_id, config.membership.node_id,
                      raft::MemberId{config.membership.member_id}};
  options.address = config.membership.advertise_addr;
  options.lock = config.lock;
  options.start = config.start;
  options.state = config.state;
  options.channels = [identity = config.identity](const std::string& address,
                                                  const std::string& node_id,
                                                  Duration connect_max) {
    return security::ManagerChannel(identity, address, node_id,
                                    security::manager_channel_arguments(connect_max))
        .get();
  };
  options.log = child_log(deps.log, "raft");
  return options;
}

}  // namespace

// Everything that lives on the main strand, where it is made and deleted.
struct ManagerRole::Core {
  Core(ManagerDeps& the_deps, const ManagerConfig& config)
      : deps(the_deps), node_id(config.membership.node_id), left(config.left_group) {}

  // The parts, over the replica.
  Status open(const ManagerConfig& config);
  Status start();
  void lead(uint64_t term);
  std::string own_signer() const;

  struct Parts {
    Parts(ManagerDeps& deps, const ManagerConfig& config, Replica& replica);
    // The version of the cluster's feed that the node has in force.
    uint64_t cluster_feed_of(const std::string& node_id) const {
      v1::FeedId feed;
      feed.set_kind(v1::FeedId::CLUSTER);
      return dispatcher.applied_version(node_id, feed);
    }

    store::Store& store;
    ThreadExecutor placement{"placement"};
    TcpHostProbe probe;
    allocator::Allocator allocator;
    orchestrator::Orchestrator orchestrator;
    orchestrator::SchedulingLoop scheduling;
    dispatcher::Dispatcher dispatcher;
    SessionMessenger messenger;
    drainer::Drainer drainer;
    network_keys::KeyKeeper network_keys;
    std::shared_ptr<logs::LogBroker> broker;
    ExaminerSessions examiner_sessions;
    std::shared_ptr<examiner::Examiner> examiner;
    ca::CertificateAuthority authority;
    members::MemberKeeper keeper;
    members::Membership membership;
    leader::LeaderParts leader;
  };

  ManagerDeps& deps;
  const std::string node_id;
  std::function<void()> left;
  std::unique_ptr<Replica> replica;
  std::unique_ptr<Parts> parts;
  bool serving = false;
  std::string kept_signer;  // see keep_copy(): of the state that a start would begin with
  std::vector<UniqueFunction<void()>> on_lead;
  std::mutex mutex;
  std::condition_variable changed;
};

ManagerRole::Core::Parts::Parts(ManagerDeps& deps, const ManagerConfig& config, Replica& replica)
    : store(replica.store()),
      probe(deps.strand, port_of(config.membership.advertise_addr)),
      allocator(deps.strand, store, deps.strand.clock(), child_log(deps.log, "allocator")),
      orchestrator(deps.strand, store, deps.rng, child_log(deps.log, "orchestrator")),
      scheduling(deps.strand, placement, store, child_log(deps.log, "scheduler")),
      dispatcher({deps.strand, store, deps.rng, probe, child_log(deps.log, "dispatcher"),
                  [&group = replica.group()] { return group.view(); }},
                 {config.membership.node_id, {config.membership.advertise_addr}}),
      messenger(deps.strand, dispatcher),
      drainer(deps.strand, store, dispatcher, child_log(deps.log, "drainer")),
      network_keys({deps.strand, store, deps.rng,
                    [this](const std::string& node_id) { return cluster_feed_of(node_id); },
                    child_log(deps.log, "network-keys")}),
      broker(std::make_shared<logs::LogBroker>(logs::BrokerDeps{
          deps.logs_strand, deps.strand, store, messenger, deps.rng, child_log(deps.log, "logs")})),
      examiner_sessions(dispatcher),
      examiner(std::make_shared<examiner::Examiner>(examiner::ExaminerDeps{
          deps.strand, store, examiner_sessions, deps.rng, child_log(deps.log, "examiner")})),
      authority(deps.strand, store, replica.group(), child_log(deps.log, "ca")),
      keeper(deps.strand, store, replica.group(), child_log(deps.log, "members")),
      membership(deps.strand, store, replica.group(), deps.reachability,
                 child_log(deps.log, "members")),
      leader(store, child_log(deps.log, "leader")) {
  const auto add = [this](const char* name, auto start, auto stop) {
    leader.add(name, leader::make_part(std::move(start), std::move(stop)));
  };
  add(
      "allocator", [this] { allocator.start(); }, [this] { allocator.stop(); });
  add(
      "scheduler", [this] { scheduling.start(store.snapshot()); }, [this] { scheduling.stop(); });
  add(
      "orchestrator", [this] { orchestrator.start(store.snapshot()); },
      [this] { orchestrator.stop(); });
  add(
      "payloads", [&api = deps.api] { api.collect_blobs(); }, [] {});
  add(
      "ca", [this] { authority.start(); }, [this] { authority.stop(); });
  add(
      "members", [this] { keeper.start(); }, [this] { keeper.stop(); });
  add(
      "dispatcher", [this] { dispatcher.start_leading(); }, [this] { dispatcher.stop_leading(); });
  // After the dispatcher, which knows by then whom to reckon with.
  add(
      "drainer", [this] { drainer.start(); }, [this] { drainer.stop(); });
  add(
      "network-keys", [this] { network_keys.start(); }, [this] { network_keys.stop(); });
  add(
      "logs", [this] { broker->start(); }, [this] { broker->stop(); });
  // Ends before the sessions do.
  add(
      "examiner", [this] { examiner->start(); }, [this] { examiner->stop(); });
  dispatcher.listen_findings(
      {[this](const std::string& node_id, const v1::NetworkFindings& findings) {
         examiner->found(node_id, findings);
       },
       [this](const std::string& node_id) { examiner->node_gone(node_id); }});
}

Status ManagerRole::Core::open(const ManagerConfig& config) {
  MUSTER_ASSIGN(replica, Replica::open(deps.strand, replica_options(deps, config)));
  parts = std::make_unique<Parts>(deps, config, *replica);
  return ok_status();
}

Status ManagerRole::Core::start() {
  store::ReplicationEvents events;
  events.on_lead = [this](uint64_t term) { lead(term); };
  events.on_follow = [this] { parts->leader.end_leading(); };
  events.on_group_changed = [this] {
    parts->keeper.group_changed();
    parts->dispatcher.managers_changed();
    std::lock_guard lock(mutex);
    changed.notify_all();
  };
  events.on_removed = [this] {
    if (left) left();
  };
  MUSTER_TRY(replica->start(std::move(events)));
  kept_signer = own_signer();  // nothing but the snapshot is applied yet
  return ok_status();
}

std::string ManagerRole::Core::own_signer() const {
  return ca::own_signer(parts->store.snapshot(), node_id);
}

void ManagerRole::Core::lead(uint64_t term) {
  parts->leader.lead(term);
  auto waiting = std::move(on_lead);
  on_lead.clear();
  for (auto& ready : waiting) ready();
}

// ---------------------------------------------------------------- the role

ManagerRole::ManagerRole(ManagerDeps deps, ManagerConfig config)
    : deps_(std::move(deps)), config_(std::move(config)) {}

ManagerRole::~ManagerRole() {
  stop("musterd stops");
}

Result<std::unique_ptr<ManagerRole>> ManagerRole::open(ManagerDeps deps, ManagerConfig config) {
  std::unique_ptr<ManagerRole> role(new ManagerRole(std::move(deps), std::move(config)));
  const Status opened = run_on(role->deps_.strand, [&]() -> Status {
    auto core = std::make_shared<Core>(role->deps_, role->config_);
    MUSTER_TRY(core->open(role->config_));
    role->log_broker_ = core->parts->broker;
    role->examiner_ = core->parts->examiner;
    role->core_ = std::move(core);
    return ok_status();
  });
  MUSTER_TRY(opened);
  role->config_.state = {};
  return role;
}

Status ManagerRole::start() {
  MUSTER_TRY(start_server());
  return run_on(deps_.strand, [this]() -> Status {
    deps_.api.activate(core_->parts->store, &core_->replica->group());
    const Status started = core_->start();
    core_->serving = started.ok();
    if (!started.ok()) deps_.api.deactivate();
    return started;
  });
}

Status ManagerRole::start_server() {
  const auto broker = [broker = log_broker_] { return broker; };
  const auto caller = [](const grpc::ServerContextBase& context) {
    return security::principal_of_tls(context);
  };
  const std::weak_ptr<Core> weak = core_;
  control::ControlServiceOptions options;
  options.service_logs = logs::make_service_logs_call(broker);
  options.examine_networks =
      examiner::make_examine_networks_call([examiner = examiner_] { return examiner; });
  options.leader.channel = [&channels = deps_.channels](const std::string& address) {
    return channels.to(address);
  };
  options.leader.reachability = &deps_.reachability;
  services_.push_back(control::make_control_service(deps_.api, caller, std::move(options)));
  services_.push_back(logs::make_logs_service(broker));
  services_.push_back(
      dispatcher::make_dispatcher_service(deps_.strand, [weak]() -> dispatcher::Dispatcher* {
        const auto core = weak.lock();
        return core != nullptr && core->serving ? &core->parts->dispatcher : nullptr;
      }));
  services_.push_back(
      members::make_membership_service(deps_.strand, [weak]() -> members::Membership* {
        const auto core = weak.lock();
        return core != nullptr && core->serving ? &core->parts->membership : nullptr;
      }));
  services_.push_back(ca::make_ca_service(
      {deps_.strand,
       [weak]() -> ca::CertificateAuthority* {
         const auto core = weak.lock();
         return core != nullptr && core->serving ? &core->parts->authority : nullptr;
       },
       [this] { return snapshot(); }, [this] { return members::leader_address(group()); }}));
  services_.push_back(
      raft::make_raft_service([inbound = core_->replica->inbound()] { return inbound; }, caller));

  // Before any handler: whether the caller may, and whether its certificate still says the truth.
  const auto gate =
      control::make_call_gate(config_.membership.cluster_id, [this] { return snapshot(); });
  grpc::ServerBuilder builder;
  int bound_port = 0;
  const std::string& address = config_.membership.listen_addr;
  builder.AddListeningPort(address, security::server_credentials(config_.identity, gate),
                           &bound_port);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  // Agents ping every 5 s; the defaults would take that for abuse.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 2000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  for (const auto& service : services_) builder.RegisterService(service.get());
  server_ = builder.BuildAndStart();
  if (server_ == nullptr || bound_port == 0) {
    server_.reset();
    return unavailable("cannot listen on {}: the address is in use or not this host's", address);
  }
  deps_.log->info("control port on {}", address);
  return ok_status();
}

// ---------------------------------------------------------------- first writes

Status ManagerRole::write(Duration limit, std::function<Status(store::Transaction&, Rng&)> body) {
  auto outcome = std::make_shared<Status>(
      StatusCode::kDeadlineExceeded,
      fmt::format("the first write to the log did not end within {}", format_duration(limit)));
  Rng& rng = deps_.rng;
  await_on(deps_.strand, limit, [core = core_, outcome, &rng, body](auto done) {
    auto write = [core, outcome, &rng, body, done] {
      core->parts->store.update([&rng, body](store::Transaction& tx) { return body(tx, rng); },
                                [outcome, done](const store::Commit& commit) {
                                  *outcome = commit.status;
                                  done();
                                });
    };
    if (core->parts->leader.term() != 0) return write();
    core->on_lead.push_back(std::move(write));
  });
  return *outcome;
}

Status ManagerRole::bootstrap(const control::NewCluster& cluster, const v1::Node& self) {
  return write(kFirstWrite, [cluster, self](store::Transaction& tx, Rng& rng) -> Status {
    MUSTER_TRY(control::create_cluster(tx, cluster));
    MUSTER_TRY(control::upsert_node(tx, self));
    return allocator::bootstrap_networks(tx, rng);
  });
}

Status ManagerRole::take_over(const v1::Node& self) {
  return write(kFirstWrite, [self](store::Transaction& tx, Rng&) -> Status {
    if (tx.view().cluster() == nullptr) {
      return failed_precondition("the log of this manager has no swarm in it");
    }
    std::vector<store::Ptr<v1::Node>> others;
    tx.view().each<v1::Node>([&](const store::Ptr<v1::Node>& node) {
      const bool manager = node->spec().desired_role() == v1::NodeSpec::MANAGER ||
                           node->role() == v1::NodeSpec::MANAGER || node->has_manager_status();
      if (manager && node->id() != self.id()) others.push_back(node);
      return true;
    });
    for (const auto& other : others) {
      v1::Node node = *other;
      node.mutable_spec()->set_desired_role(v1::NodeSpec::WORKER);
      node.set_role(v1::NodeSpec::WORKER);
      node.clear_manager_status();
      MUSTER_TRY(tx.update(std::move(node)));
    }
    MUSTER_TRY(control::upsert_node(tx, self));
    // Whatever it was before, it is to be a manager now.
    v1::Node own = *tx.view().get<v1::Node>(self.id());
    own.mutable_spec()->set_desired_role(v1::NodeSpec::MANAGER);
    return tx.update(std::move(own));
  });
}

void ManagerRole::keep_copy() {
  deps_.strand.post([core = core_, log = deps_.log] {
    if (core->replica == nullptr || !core->serving) return;
    std::string signer = core->own_signer();
    if (signer.empty() || signer == core->kept_signer) return;
    core->kept_signer = std::move(signer);
    core->replica->take_snapshot([core, log](const Status& status) {
      if (status.ok()) return;
      core->kept_signer.clear();  // next time
      log->warn("no copy of the state was kept: {}", status.message());
    });
  });
}

// ---------------------------------------------------------------- end

// May come from another thread than stop().
void ManagerRole::hand_over() {
  std::shared_ptr<Core> core;
  {
    std::lock_guard lock(mutex_);
    if (ended_) return;
    core = core_;
  }
  if (core == nullptr) return;
  const raft::GroupView view = group();
  if (!view.leads || view.members.size() < 2) return;
  await_on(deps_.strand, kHandOver, [core](auto done) {
    if (core->replica == nullptr) return done();
    core->replica->group().transfer_leadership({}, [core, done](const Status&) { done(); });
  });
}

void ManagerRole::stop(const std::string& reason) {
  if (core_ == nullptr) return;
  hand_over();
  run_on(deps_.strand, [&] {
    core_->serving = false;
    deps_.api.deactivate();
    core_->parts->dispatcher.shut_down(reason);
  });
  // Leader parts end before the log does; `done` is the last that the driver tells.
  const bool stopped = await_on(deps_.strand, kStopLimit, [core = core_](auto done) {
    core->replica->stop([core, done] { done(); });
  });
  if (!stopped) deps_.log->warn("the log did not close in time");
  if (server_ != nullptr) {
    // Sessions were told to end; whatever else is under way gets a second.
    server_->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(1));
    server_.reset();
  }
  run_on(deps_.strand, [this] { core_->parts->leader.end_leading(); });
  // The broker has let go of the store once its strand has done what it was told.
  run_on(deps_.logs_strand, [] {});
  {
    std::lock_guard lock(mutex_);
    ended_ = true;
  }
  run_on(deps_.strand, [this] {
    core_->parts.reset();
    core_->replica.reset();
  });
  core_.reset();
}

// ---------------------------------------------------------------- what it is asked

std::shared_ptr<logs::LogBroker> ManagerRole::log_broker() const {
  return log_broker_;
}

std::shared_ptr<examiner::Examiner> ManagerRole::examiner() const {
  return examiner_;
}

store::Snapshot ManagerRole::snapshot() const {
  std::lock_guard lock(mutex_);
  return ended_ ? store::Snapshot() : core_->parts->store.snapshot();
}

raft::GroupView ManagerRole::group() const {
  std::lock_guard lock(mutex_);
  return ended_ ? raft::GroupView() : core_->replica->group().view();
}

bool ManagerRole::in_group() const {
  return group().find(raft::MemberId{config_.membership.member_id}) != nullptr;
}

bool ManagerRole::await_vote(Duration limit) {
  const auto votes = [this] {
    const raft::GroupView view = group();
    const auto* self = view.find(raft::MemberId{config_.membership.member_id});
    return self != nullptr && self->member.voter;
  };
  const auto core = core_;
  std::unique_lock lock(core->mutex);
  return core->changed.wait_for(lock, limit, votes);
}

Status ManagerRole::set_lock(const std::optional<security::UnlockKey>& lock) {
  return core_->replica->set_lock(lock);
}

}  // namespace muster::daemon
