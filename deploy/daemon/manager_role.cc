#include "deploy/daemon/manager_role.h"

#include <grpcpp/server_builder.h>

#include <chrono>
#include <optional>
#include <utility>

#include "base/security/tls/credentials.h"
#include "deploy/daemon/host_probe.h"
#include "deploy/daemon/run_on.h"
#include "manager/allocator/allocator.h"
#include "manager/control/grpc/control_service.h"
#include "manager/dispatcher/grpc/dispatcher_service.h"
#include "manager/leader/leader_parts.h"
#include "manager/logs/grpc/log_services.h"
#include "manager/orchestrator/orchestrator.h"
#include "manager/orchestrator/scheduling_loop.h"
#include "manager/store/durable/durable_store.h"

namespace muster::daemon {
namespace {

using namespace muster::manager;  // NOLINT: this file wires all of them together

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

}  // namespace

// Everything that lives on the main strand, where it is made and deleted.
struct ManagerRole::Core {
  Core(ManagerDeps& deps, const ManagerConfig& config, std::unique_ptr<store::DurableStore> opened)
      : durable(std::move(opened)),
        store(durable->store()),
        placement("placement"),
        probe(deps.strand, port_of(config.membership.advertise_addr)),
        allocator(deps.strand, store, deps.strand.clock(), child_log(deps.log, "allocator")),
        orchestrator(deps.strand, store, deps.rng, child_log(deps.log, "orchestrator")),
        scheduling(deps.strand, placement, store, child_log(deps.log, "scheduler")),
        dispatcher({deps.strand, store, deps.rng, probe, child_log(deps.log, "dispatcher")},
                   {config.membership.node_id, {config.membership.advertise_addr}}),
        messenger(deps.strand, dispatcher),
        broker(std::make_shared<logs::LogBroker>(logs::BrokerDeps{deps.logs_strand, deps.strand,
                                                                  store, messenger, deps.rng,
                                                                  child_log(deps.log, "logs")})),
        leader(store, child_log(deps.log, "leader")) {
    leader.add("allocator",
               leader::make_part([this] { allocator.start(); }, [this] { allocator.stop(); }));
    leader.add("scheduler", leader::make_part([this] { scheduling.start(store.snapshot()); },
                                              [this] { scheduling.stop(); }));
    leader.add("orchestrator", leader::make_part([this] { orchestrator.start(store.snapshot()); },
                                                 [this] { orchestrator.stop(); }));
    leader.add("payloads", leader::make_part([&api = deps.api] { api.collect_blobs(); }, [] {}));
    leader.add("dispatcher", leader::make_part([this] { dispatcher.start_leading(); },
                                               [this] { dispatcher.stop_leading(); }));
    leader.add("logs", leader::make_part([this] { broker->start(); }, [this] { broker->stop(); }));
  }

  std::unique_ptr<store::DurableStore> durable;
  store::Store& store;
  ThreadExecutor placement;
  TcpHostProbe probe;
  allocator::Allocator allocator;
  orchestrator::Orchestrator orchestrator;
  orchestrator::SchedulingLoop scheduling;
  dispatcher::Dispatcher dispatcher;
  SessionMessenger messenger;
  std::shared_ptr<logs::LogBroker> broker;
  leader::LeaderParts leader;
  bool serving = false;
};

ManagerRole::ManagerRole(ManagerDeps deps, ManagerConfig config)
    : deps_(std::move(deps)), config_(std::move(config)) {}

ManagerRole::~ManagerRole() {
  stop("musterd stops");
}

Result<std::unique_ptr<ManagerRole>> ManagerRole::open(ManagerDeps deps, ManagerConfig config) {
  std::unique_ptr<ManagerRole> role(new ManagerRole(std::move(deps), std::move(config)));
  Executor& strand = role->deps_.strand;
  const Status opened = run_on(strand, [&]() -> Status {
    store::DurableStore::Options options;
    options.dir = role->config_.data_dir / "raft";
    options.log = child_log(role->deps_.log, "raft");
    MUSTER_ASSIGN(auto durable, store::DurableStore::open(strand, std::move(options)));
    role->core_ = std::make_shared<Core>(role->deps_, role->config_, std::move(durable));
    role->log_broker_ = role->core_->broker;
    return ok_status();
  });
  MUSTER_TRY(opened);
  return role;
}

Status ManagerRole::bootstrap(const control::NewCluster& cluster, const v1::Node& self) {
  auto outcome = std::make_shared<Status>(StatusCode::kDeadlineExceeded,
                                          "the first write to the log did not end within 20 s");
  Rng& rng = deps_.rng;
  await_on(deps_.strand, 20s, [core = core_, outcome, &rng, cluster, self](auto done) {
    core->store.update(
        [&rng, cluster, self](store::Transaction& tx) -> Status {
          MUSTER_TRY(control::create_cluster(tx, cluster));
          MUSTER_TRY(control::upsert_node(tx, self));
          return allocator::bootstrap_networks(tx, rng);
        },
        [outcome, done](const store::Commit& commit) {
          *outcome = commit.status;
          done();
        });
  });
  return *outcome;
}

Status ManagerRole::start() {
  MUSTER_TRY(start_server());
  run_on(deps_.strand, [this] {
    core_->serving = true;
    core_->leader.lead(core_->durable->term());
    deps_.api.activate(core_->store);
  });
  return ok_status();
}

Status ManagerRole::start_server() {
  const auto broker = [broker = log_broker_] { return broker; };
  control::ControlServiceOptions options;
  options.service_logs = logs::make_service_logs_call(broker);
  control_service_ = control::make_control_service(
      deps_.api,
      [](const grpc::ServerContextBase& context) { return security::principal_of_tls(context); },
      std::move(options));
  logs_service_ = logs::make_logs_service(broker);
  dispatcher_service_ = dispatcher::make_dispatcher_service(
      deps_.strand, [weak = std::weak_ptr<Core>(core_)]() -> dispatcher::Dispatcher* {
        const auto core = weak.lock();
        return core != nullptr && core->serving ? &core->dispatcher : nullptr;
      });
  grpc::ServerBuilder builder;
  int bound_port = 0;
  const std::string& address = config_.membership.listen_addr;
  MUSTER_ASSIGN(auto identity, security::TlsIdentity::create(config_.credentials));
  builder.AddListeningPort(address, security::server_credentials(std::move(identity)), &bound_port);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  // Agents ping every 5 s; the defaults would take that for abuse.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 2000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.RegisterService(control_service_.get());
  builder.RegisterService(dispatcher_service_.get());
  builder.RegisterService(logs_service_.get());
  server_ = builder.BuildAndStart();
  if (server_ == nullptr || bound_port == 0) {
    server_.reset();
    return unavailable("cannot listen on {}: the address is in use or not this host's", address);
  }
  deps_.log->info("control port on {}", address);
  return ok_status();
}

void ManagerRole::stop(const std::string& reason) {
  if (core_ == nullptr) return;
  run_on(deps_.strand, [&] {
    core_->serving = false;
    deps_.api.deactivate();
    core_->dispatcher.shut_down(reason);
  });
  if (server_ != nullptr) {
    // Sessions were told to end; whatever else is under way gets a second.
    server_->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(1));
    server_.reset();
  }
  run_on(deps_.strand, [this] { core_->leader.end_leading(); });
  // The broker has let go of the store once its strand has done what it was told.
  run_on(deps_.logs_strand, [] {});
  run_on(deps_.strand, [this] { core_.reset(); });
}

std::shared_ptr<logs::LogBroker> ManagerRole::log_broker() const {
  return log_broker_;
}

store::Snapshot ManagerRole::snapshot() const {
  return core_ == nullptr ? store::Snapshot() : core_->store.snapshot();
}

}  // namespace muster::daemon
