#include "deploy/daemon/agent_role.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "agent/doctor/doctor.h"
#include "agent/doctor/linux_host_tests.h"
#include "agent/logs/log_forwarder.h"
#include "agent/session/grpc/grpc_link.h"
#include "agent/session/grpc/grpc_log_streams.h"
#include "agent/worker/exec_health_probe.h"
#include "agent/worker/log_view.h"
#include "agent/worker/repair_report.h"
#include "base/file.h"
#include "deploy/daemon/data_path.h"
#include "deploy/daemon/host.h"
#include "deploy/daemon/run_on.h"

namespace muster::daemon {
namespace {

// Image pulls wait for the network, starts and stops for the CPU: four of the latter at a time is
// where crun's throughput peaks on small hosts.
constexpr unsigned kPrepareThreads = 8;
constexpr unsigned kStepThreads = 4;
// Health checks mostly wait, the hanging ones until their time-out, and none may keep others from
// their turn.
constexpr unsigned kHealthThreads = 256;
// They mostly wait, and none may keep another examination from its turn.
constexpr unsigned kDoctorThreads = 24;
constexpr Duration kLeaveLimit = 120s;
constexpr Duration kHostPeriod = 10s;
// Of so many looks at the host one asks whether the kernel can encrypt by now: that takes a network
// namespace each time.
constexpr unsigned kEncryptionLooks = 6;

agent::NodeContext node_of(const AgentConfig& config) {
  agent::NodeContext node;
  node.node_id = config.membership.node_id;
  node.hostname = config.description.hostname();
  node.os = config.description.platform().os();
  node.architecture = config.description.platform().architecture();
  node.node_log_driver = config.default_log_driver;
  return node;
}

}  // namespace

// What lives on the agent's strand.
struct AgentRole::Core final : agent::FeedSink {
  Core(AgentRole& of)
      : role(of),
        log(child_log(role.deps_.log, "agent")),
        worker(worker_deps(), worker_options(role.config_)),
        session({role.deps_.strand, *role.links_, *this, role.deps_.rng,
                 child_log(role.deps_.log, "session")},
                role.config_.description, role.config_.managers),
        publisher(
            role.deps_.strand, [this] { return logged_tasks(); }, *role.log_streams_,
            child_log(role.deps_.log, "logs")),
        doctor(doctor_deps()),
        repairs(role.deps_.strand,
                [this](const v1::NetworkRepairs& mended) {
                  v1::NodeDescription& known = role.config_.description;
                  *known.mutable_network_repairs() = mended;
                  session.describe(known);
                }),
        strand(role.deps_.strand),
        events(role.config_.events),
        self(std::make_shared<Core*>(this)) {
    if (role.deps_.parts.names == nullptr) return;
    role.deps_.parts.names->on_mended([self = self, &strand = strand](const auto& found) {
      strand.post([self, found] {
        if (*self != nullptr) (*self)->mended(found);
      });
    });
  }
  // Who comes after it has told netd's link of itself by then.
  ~Core() override { *self = nullptr; }

  agent::WorkerDeps worker_deps() {
    agent::WorkerDeps deps{role.deps_.strand,
                           *role.prepare_pool_,
                           *role.step_pool_,
                           *role.health_pool_,
                           *role.deps_.parts.runtime,
                           *role.deps_.parts.images,
                           *role.deps_.parts.volumes,
                           *role.deps_.parts.network,
                           *role.health_,
                           role.files_,
                           role.payload_files_,
                           role.deps_.rng,
                           [this](v1::TaskStatusUpdate update) {
                             session.report(std::move(update));
                             tasks_changed();
                           },
                           child_log(role.deps_.log, "worker")};
    if (role.config_.names) deps.names = role.deps_.parts.names.get();
    deps.flows = role.deps_.parts.flows.get();
    deps.applied = [this](const v1::FeedId& feed, uint64_t version) {
      session.applied(feed, version);
    };
    deps.forgotten = [this](const v1::FeedId& feed) { session.forgotten(feed); };
    deps.repaired = [this](const auto& found) { mended(found); };
    deps.limited = [this, host = role.config_.description.limitations()](const auto& limits) {
      v1::NodeDescription& known = role.config_.description;
      *known.mutable_limitations() = host;
      for (const std::string& limitation : limits.sentences) known.add_limitations(limitation);
      known.set_no_overlays(limits.no_overlays);
      session.describe(known);
    };
    return deps;
  }
  // Differences of the kernel's network: the metric's, and the event's.
  void mended(const std::vector<std::string>& found) {
    role.deps_.repairs.add(found.size());
    repairs.add(found);
  }
  static agent::WorkerOptions worker_options(const AgentConfig& config) {
    agent::WorkerOptions options;
    options.instance_id = config.instance_id;
    options.data_dir = config.data_dir / "agent";
    options.run_dir = config.run_dir;
    // Without one, a restart of the host is seen by its containers' being gone alone.
    options.boot_id = read_file("/proc/sys/kernel/random/boot_id", 4096).value_or("");
    options.node = node_of(config);
    options.data_path_addr = local_data_path(config.membership);
    options.data_path_port = config.membership.data_path_port;
    options.mesh = true;
    return options;
  }

  agent::DoctorDeps doctor_deps() {
    return {role.deps_.strand,
            *role.doctor_pool_,
            *role.host_tests_,
            *role.deps_.parts.network,
            [this] { return facts(); },
            [this](const v1::NetworkFindings& findings) { session.tell_findings(findings); },
            [this](const auto& found) { mended(found); },
            child_log(role.deps_.log, "doctor")};
  }
  agent::NodeFacts facts() const {
    agent::NodeFacts out;
    out.node_id = role.config_.membership.node_id;
    out.hostname = role.config_.description.hostname();
    out.data_path_addr = local_data_path(role.config_.membership);
    out.networks = worker.networks();
    out.containers =
        agent::running_containers(worker.tasks(), (role.config_.run_dir / "netns").string());
    out.ports = worker.ports();
    out.refused_ports = worker.refused_ports();
    out.loopback_ports = worker.loopback_ports();
    out.encryption = examined_encryption;
    out.names = role.config_.names && role.deps_.parts.names != nullptr;
    return out;
  }

  void apply(const v1::FeedUpdate& step) override {
    worker.apply(step);
    if (step.has_cluster()) examined_encryption = step.cluster().encryption();
    if (step.has_cluster() && events.cluster_changed) events.cluster_changed(step.cluster());
    tasks_changed();  // tasks that went report nothing
  }
  void logs_wanted(const v1::LogSubscription& subscription) override {
    publisher.subscribe(subscription);
  }
  void logs_unwanted(const std::string& id) override { publisher.cancel(id); }
  void examination_wanted(const v1::NetworkExamination& examination) override {
    doctor.examine(examination);
  }
  void node_removed(const std::string& why) override {
    log->warn("this node was removed from the swarm ({}): its containers are stopped", why);
    worker.leave([] {});
    if (events.node_removed) events.node_removed(why);
  }
  void certificate_outdated(const std::string& why) override {
    if (events.certificate_outdated) events.certificate_outdated(why);
  }
  void identity_shared(const std::string& why) override {
    if (events.identity_shared) events.identity_shared(why);
  }
  void no_session(const std::string& why) override {
    if (events.no_session) events.no_session(why);
  }
  void managers_known(const std::vector<std::string>& addresses) override {
    if (events.managers_known) events.managers_known(addresses);
  }

  std::vector<agent::LoggedTask> logged_tasks() const {
    std::vector<agent::LoggedTask> out;
    for (const v1::LocalTask& task : worker.tasks()) {
      out.push_back(agent::describe_logged_task(task, worker.node(), worker.paths()));
    }
    return out;
  }

  // Routes come and go, with VPNs for example; interfaces are given another MTU; modules are
  // loaded.
  void watch_host() {
    strand.after(kHostPeriod, [self = self] {
      if (*self != nullptr) (*self)->look_at_host();
    });
  }
  void look_at_host() {
    auto* const probe = ++looks % kEncryptionLooks == 0 ? &role.deps_.parts.encryption : nullptr;
    role.step_pool_->post([self = self, &strand = strand, log = log,
                           instance = role.config_.instance_id,
                           membership = role.config_.membership, probe,
                           known = role.config_.description.no_encryption()] {
      strand.post(
          [self, ranges = host_ranges(instance), data_path = describe_data_path(membership, log),
           no_encryption = probe == nullptr ? known : describe_no_encryption(membership, *probe)] {
            if (*self == nullptr) return;
            (*self)->found(ranges, data_path, no_encryption);
            (*self)->watch_host();
          });
    });
  }
  // What cannot be seen at the moment is not gone: the cluster would choose subnets and MTUs by it.
  void found(const Result<std::vector<std::string>>& ranges, v1::DataPath data_path,
             const std::string& no_encryption) {
    v1::NodeDescription& known = role.config_.description;
    const std::string before = known.SerializeAsString();
    if (ranges) known.mutable_local_ranges()->Assign(ranges->begin(), ranges->end());
    const v1::DataPath& path = known.data_path();
    if (data_path.mtu() == 0 && data_path.address() == path.address()) {
      data_path.set_mtu(path.mtu());
    }
    *known.mutable_data_path() = std::move(data_path);
    known.set_no_encryption(no_encryption);
    if (known.SerializeAsString() != before) session.describe(known);
  }

  // The worker may be in the middle of a change; what follows from it is looked at afterwards, once
  // for all changes that come together.
  void tasks_changed() {
    if (std::exchange(change_posted, true)) return;
    strand.post([self = self] {
      if (*self == nullptr) return;
      (*self)->change_posted = false;
      (*self)->publisher.tasks_changed();
      (*self)->forward_logs();
    });
  }
  // The forwarder is made when the first container needs it; most nodes never have one.
  void forward_logs() {
    if (forwarder == nullptr && !worker.any_forwarded()) return;
    std::vector<agent::ForwardTarget> targets;
    for (const v1::LocalTask& task : worker.tasks()) {
      auto target = agent::forward_target(task, worker.node(), worker.paths());
      if (target) targets.push_back(*std::move(target));
    }
    if (forwarder == nullptr) {
      if (targets.empty()) return;
      forwarder = std::make_unique<agent::LogForwarder>(agent::kJournalSocket, log);
    }
    forwarder->set_targets(std::move(targets));
  }

  AgentRole& role;
  Log log;
  agent::Worker worker;
  agent::Session session;
  agent::LogPublisher publisher;
  agent::Doctor doctor;
  agent::RepairReport repairs;
  v1::EncryptionConfig examined_encryption;
  unsigned looks = 0;  // at the host
  std::unique_ptr<agent::LogForwarder> forwarder;
  Executor& strand;
  AgentEvents events;
  std::shared_ptr<Core*> self;
  bool change_posted = false;
};

AgentRole::AgentRole(AgentDeps deps, AgentConfig config)
    : deps_(std::move(deps)),
      config_(std::move(config)),
      payload_files_(agent::TaskPaths{{}, config_.run_dir}.secrets()),
      health_(std::make_unique<agent::ExecHealthProbe>(*deps_.parts.runtime)),
      prepare_pool_(std::make_unique<agent::ThreadPool>("prepare", kPrepareThreads)),
      step_pool_(std::make_unique<agent::ThreadPool>("container", kStepThreads)),
      health_pool_(std::make_unique<agent::ThreadPool>("health", kHealthThreads)),
      host_tests_(agent::make_linux_host_tests()),
      doctor_pool_(std::make_unique<agent::ThreadPool>("doctor", kDoctorThreads)),
      links_(agent::make_grpc_link_factory(deps_.strand, config_.credentials)),
      // Opened on the strand, when the session has asked for lines.
      log_streams_(agent::make_grpc_log_streams([this] { return core_->session.manager(); },
                                                config_.credentials)) {}

AgentRole::~AgentRole() {
  stop(v1::Goodbye::RESTART);
  run_on(deps_.strand, [this] { core_.reset(); });
  health_->stop();  // the pool waits for what runs, and that may hang
  host_tests_->stop();
}

Status AgentRole::start_alone() {
  return run_on(deps_.strand, [this]() -> Status {
    core_ = std::make_unique<Core>(*this);
    MUSTER_TRY(core_->worker.start());
    core_->tasks_changed();
    return ok_status();
  });
}

Status AgentRole::start() {
  MUSTER_TRY(start_alone());
  return run_on(deps_.strand, [this]() -> Status {
    core_->session.start();
    core_->watch_host();
    session_open_ = true;
    return ok_status();
  });
}

void AgentRole::connect(const v1::TlsInfo& tls) {
  run_on(deps_.strand, [&] {
    if (std::exchange(session_open_, true)) return;
    *config_.description.mutable_tls() = tls;
    core_->session.describe(config_.description);
    core_->session.start();
    core_->watch_host();
  });
}

void AgentRole::certificate_renewed(const v1::TlsInfo& tls) {
  run_on(deps_.strand, [&] {
    if (core_ == nullptr || !session_open_) return;
    *config_.description.mutable_tls() = tls;
    core_->session.describe(config_.description);
    core_->session.renew();
  });
}

void AgentRole::stop(v1::Goodbye::Reason reason) {
  if (core_ == nullptr || !session_open_) return;
  session_open_ = false;
  await_on(deps_.strand, 2s,
           [this, reason](auto done) { core_->session.stop(reason, std::move(done)); });
}

void AgentRole::end_tasks() {
  run_on(deps_.strand, [this] { core_->worker.leave([] {}); });
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
  return run_on(deps_.strand, [this] { return core_->worker.node(); });
}

}  // namespace muster::daemon
