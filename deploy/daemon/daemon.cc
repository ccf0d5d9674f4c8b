#include "deploy/daemon/daemon.h"

#include <grpcpp/server_builder.h>

#include <chrono>
#include <filesystem>
#include <utility>

#include "base/file.h"
#include "deploy/daemon/host.h"
#include "deploy/daemon/local_service.h"
#include "deploy/daemon/run_on.h"
#include "manager/control/grpc/control_service.h"
#include "manager/examiner/grpc/examine_call.h"
#include "manager/logs/grpc/log_services.h"

namespace muster::daemon {
namespace {

constexpr size_t kLocalCallThreads = 8;
// One for the certificate, one for the group: each waits for managers that may not answer.
constexpr size_t kManagerCallThreads = 2;

}  // namespace

Daemon::Daemon(Options options, Log log)
    : options_(std::move(options)),
      log_(std::move(log)),
      repairs_(metrics_.counter("muster_network_repairs_total",
                                "Differences of the kernel's network that were mended")),
      api_(main_loop_, rng_, *this, child_log(log_, "control")),
      listener_(child_log(log_, "socket")) {}

Daemon::~Daemon() {
  stop();
}

Status Daemon::start() {
  MUSTER_TRY(make_directory(options_.data_dir, 0711));
  MUSTER_TRY(make_directory(options_.run_dir, 0755));
  MUSTER_ASSIGN(data_lock_, lock_data_dir(options_.data_dir));
  MUSTER_TRY(listener_.listen(options_.socket));
  MUSTER_ASSIGN(state_, load_node_state(options_.data_dir));
  MUSTER_ASSIGN(description_, describe_host(options_));
  MUSTER_ASSIGN(default_log_driver_, default_log_driver(options_));
  MUSTER_ASSIGN(parts_, make_node_parts(options_, state_.instance_id, metrics_, log_));
  description_.set_balancer(parts_->balancer);
  for (const auto& limitation : parts_->runtime->info().limitations) {
    description_.add_limitations(limitation);
  }
  registries_ = std::make_unique<RegistryResolver>(main_loop_, *parts_->images);
  api_.use_registries(registries_.get());
  if (!options_.metrics_addr.empty()) {
    metrics_server_ = std::make_unique<MetricsServer>(metrics_, child_log(log_, "metrics"));
    MUSTER_TRY(metrics_server_->start(options_.metrics_addr));
  }
  local_calls_ = std::make_unique<WorkPool>("local-call", kLocalCallThreads);
  manager_calls_ = std::make_unique<WorkPool>("manager-call", kManagerCallThreads);
  if (state_.membership) {
    const Status taken = run_on(lifecycle_, [this] { return resume(); });
    if (!taken.ok()) {
      // The node stays reachable and says what is wrong; its containers are not touched.
      log_->error("this node cannot take part in its swarm: {}", taken.message());
      set_fault(taken.message());
    }
  }
  return start_local_api();
}

Status Daemon::start_local_api() {
  const auto principal_of = [this](const grpc::ServerContextBase& context) {
    return listener_.principal(context);
  };
  manager::control::ControlServiceOptions control;
  control.service_logs =
      manager::logs::make_service_logs_call([this]() -> std::shared_ptr<manager::logs::LogBroker> {
        const auto role = manager();
        return role == nullptr ? nullptr : role->log_broker();
      });
  control.examine_networks = manager::examiner::make_examine_networks_call(
      [this]() -> std::shared_ptr<manager::examiner::Examiner> {
        const auto role = manager();
        return role == nullptr ? nullptr : role->examiner();
      });
  control.leader.channel = [this](const std::string& address) { return channels_.to(address); };
  control.leader.reachability = &reachability_;
  control_service_ = manager::control::make_control_service(api_, principal_of, std::move(control));
  local_service_ =
      make_local_service({*local_calls_, *parts_, options_.data_dir, [this] { return agent(); },
                          [this] { return role_error(); }, principal_of});
  grpc::ServerBuilder builder;
  builder.RegisterService(control_service_.get());
  builder.RegisterService(local_service_.get());
  local_server_ = builder.BuildAndStart();
  if (local_server_ == nullptr) return internal_error("the local API server did not start");
  listener_.start(*local_server_);
  log_->info("musterd {} serves {}", MUSTER_VERSION, options_.socket);
  return ok_status();
}

void Daemon::stop() {
  if (stopped_.exchange(true)) return;
  // First of all: the swarm needs another leader, whatever else takes its time here.
  if (const auto role = manager()) role->hand_over();
  listener_.stop();
  if (local_server_ != nullptr) {
    local_server_->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(1));
  }
  run_on(lifecycle_, [this] { drop_roles("musterd stops", v1::Goodbye::RESTART); });
  manager_calls_.reset();  // what is under way tells the lifecycle strand how it ended
  lifecycle_.stop();
  local_server_.reset();
  local_calls_.reset();
  registries_.reset();  // the control API is not called any more
  metrics_server_.reset();
  if (parts_ != nullptr && !state_.membership) sweep_host();
  agent_strand_.stop();
  logs_strand_.stop();
  main_loop_.stop();
}

std::shared_ptr<ManagerRole> Daemon::manager() const {
  std::lock_guard lock(mutex_);
  return manager_;
}

std::shared_ptr<security::TlsIdentity> Daemon::tls() const {
  std::lock_guard lock(mutex_);
  return tls_;
}

std::shared_ptr<AgentRole> Daemon::agent() const {
  std::lock_guard lock(mutex_);
  return agent_;
}

void Daemon::remove_swarm_files() {
  std::error_code ignored;
  for (const char* name : {"raft", "certificates", "agent"}) {
    std::filesystem::remove_all(options_.data_dir / name, ignored);
  }
}

void Daemon::end_names() {
  // One that does not end by itself is killed with its cgroup at the runtime's teardown.
  if (const Status ended = parts_->names->end(); !ended.ok()) {
    log_->warn("{}", ended.message());
  }
}

void Daemon::sweep_host() {
  end_names();
  Status swept = parts_->runtime->teardown();
  if (swept.ok()) swept = parts_->network->teardown();
  if (!swept.ok()) return log_->warn("left on this host: {}", swept.message());
  std::error_code ignored;
  std::filesystem::remove_all(options_.run_dir / state_.instance_id, ignored);
}

// A node whose roles did not start may still have containers of an earlier life.
Status Daemon::end_left_containers() {
  AgentConfig config = agent_config();
  config.events = {};
  config.managers = {"127.0.0.1:1"};  // of one that is never asked
  config.names = false;
  end_names();
  AgentRole agent(AgentDeps{agent_strand_, rng_, *parts_, log_, repairs_}, config);
  MUSTER_TRY(agent.start_alone());
  return agent.leave();
}

Status Daemon::end_containers() {
  std::error_code error;
  if (!std::filesystem::exists(options_.data_dir / "node.json", error)) return ok_status();
  MUSTER_TRY(make_directory(options_.run_dir, 0755));
  MUSTER_ASSIGN(data_lock_, lock_data_dir(options_.data_dir));
  MUSTER_ASSIGN(state_, load_node_state(options_.data_dir));
  MUSTER_ASSIGN(description_, describe_host(options_));
  MUSTER_ASSIGN(parts_, make_node_parts(options_, state_.instance_id, metrics_, log_));
  description_.set_balancer(parts_->balancer);
  const Status ended = run_on(lifecycle_, [this] { return end_left_containers(); });
  sweep_host();  // what did not end in time is killed with its cgroup
  return ended;
}

}  // namespace muster::daemon
