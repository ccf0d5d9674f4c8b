#include "deploy/daemon/agent_role.h"

#include <utility>

#include "agent/session/grpc/grpc_link.h"
#include "agent/worker/exec_health_probe.h"
#include "deploy/daemon/run_on.h"

namespace muster::daemon {
namespace {

// Image pulls wait for the network, starts and stops for the CPU: four of the latter at a time is
// where crun's throughput peaks on small hosts.
constexpr unsigned kPrepareThreads = 8;
constexpr unsigned kStepThreads = 4;
constexpr unsigned kHealthThreads = 4;
constexpr Duration kLeaveLimit = 120s;

agent::NodeContext node_of(const AgentConfig& config) {
  agent::NodeContext node;
  node.node_id = config.membership.node_id;
  node.hostname = config.description.hostname();
  node.os = config.description.platform().os();
  node.architecture = config.description.platform().architecture();
  return node;
}

}  // namespace

// What lives on the agent's strand.
struct AgentRole::Core final : agent::FeedSink {
  Core(AgentRole& role)
      : log(child_log(role.deps_.log, "agent")),
        health(*role.deps_.parts.runtime),
        worker({role.deps_.strand, *role.prepare_pool_, *role.step_pool_, *role.health_pool_,
                *role.deps_.parts.runtime, *role.deps_.parts.images, *role.deps_.parts.volumes,
                *role.deps_.parts.network, health, role.deps_.rng,
                [this](v1::TaskStatusUpdate update) { session.report(std::move(update)); },
                child_log(role.deps_.log, "worker"),
                role.config_.names ? role.deps_.parts.names.get() : nullptr},
               worker_options(role.config_)),
        session({role.deps_.strand, *role.links_, *this, role.deps_.rng,
                 child_log(role.deps_.log, "session")},
                role.config_.description) {}

  static agent::WorkerOptions worker_options(const AgentConfig& config) {
    agent::WorkerOptions options;
    options.instance_id = config.instance_id;
    options.data_dir = config.data_dir / "agent";
    options.run_dir = config.run_dir;
    options.node = node_of(config);
    return options;
  }

  void apply(const v1::FeedUpdate& step) override { worker.apply(step); }
  void node_removed(const std::string& why) override {
    log->warn("this node was removed from the swarm ({}): its containers are stopped", why);
    worker.leave([] {});
  }

  Log log;
  agent::ExecHealthProbe health;
  agent::Worker worker;
  agent::Session session;
};

AgentRole::AgentRole(AgentDeps deps, AgentConfig config)
    : deps_(std::move(deps)),
      config_(std::move(config)),
      prepare_pool_(std::make_unique<agent::ThreadPool>("prepare", kPrepareThreads)),
      step_pool_(std::make_unique<agent::ThreadPool>("container", kStepThreads)),
      health_pool_(std::make_unique<agent::ThreadPool>("health", kHealthThreads)),
      links_(agent::make_grpc_link_factory(deps_.strand, config_.membership.advertise_addr,
                                           config_.credentials)) {}

AgentRole::~AgentRole() {
  stop(v1::Goodbye::RESTART);
  run_on(deps_.strand, [this] { core_.reset(); });
}

Status AgentRole::start_alone() {
  return run_on(deps_.strand, [this]() -> Status {
    core_ = std::make_unique<Core>(*this);
    return core_->worker.start();
  });
}

Status AgentRole::start() {
  MUSTER_TRY(start_alone());
  return run_on(deps_.strand, [this]() -> Status {
    core_->session.start();
    session_open_ = true;
    return ok_status();
  });
}

void AgentRole::stop(v1::Goodbye::Reason reason) {
  if (core_ == nullptr || !session_open_) return;
  session_open_ = false;
  await_on(deps_.strand, 2s,
           [this, reason](auto done) { core_->session.stop(reason, std::move(done)); });
}

Status AgentRole::leave() {
  const bool done = await_on(deps_.strand, kLeaveLimit,
                             [this](auto done) { core_->worker.leave(std::move(done)); });
  if (!done) return Status(StatusCode::kDeadlineExceeded, "containers did not end in time");
  return ok_status();
}

std::vector<v1::LocalTask> AgentRole::tasks() const {
  return run_on(deps_.strand, [this] { return core_->worker.tasks(); });
}

const agent::TaskPaths& AgentRole::paths() const {
  return core_->worker.paths();
}

agent::NodeContext AgentRole::node() const {
  return node_of(config_);
}

}  // namespace muster::daemon
