#include "deploy/daemon/daemon.h"

#include <grpcpp/server_builder.h>

#include <chrono>
#include <filesystem>
#include <utility>

#include "base/file.h"
#include "base/security/join_token.h"
#include "base/security/x509.h"
#include "deploy/daemon/address_pools.h"
#include "deploy/daemon/host.h"
#include "deploy/daemon/local_service.h"
#include "deploy/daemon/run_on.h"
#include "manager/control/cluster_objects.h"
#include "manager/control/grpc/control_service.h"
#include "manager/logs/grpc/log_services.h"

namespace muster::daemon {
namespace {

using manager::control::Callback;

constexpr uint16_t kControlPort = 2377;
constexpr Duration kCertificateValidity = 24h * 90;
constexpr size_t kLocalCallThreads = 8;

Result<manager::control::NewCluster> new_cluster(const v1::InitSwarmRequest& request,
                                                 const std::string& id,
                                                 const security::CertificateAndKey& root) {
  manager::control::NewCluster cluster;
  cluster.id = id;
  cluster.spec = request.spec();
  cluster.default_address_pools.assign(request.default_address_pools().begin(),
                                       request.default_address_pools().end());
  cluster.subnet_mask_bits = request.subnet_mask_bits();
  cluster.data_path_port = request.data_path_port();
  v1::RootCa& ca = cluster.root_ca;
  ca.set_certificate_pem(root.certificate_pem);
  ca.set_key_pem(root.key_pem);
  MUSTER_ASSIGN(*ca.mutable_certificate_digest(),
                security::certificate_digest(root.certificate_pem));
  MUSTER_ASSIGN(const auto worker, security::create_join_token(root.certificate_pem));
  MUSTER_ASSIGN(const auto manager, security::create_join_token(root.certificate_pem));
  ca.mutable_join_tokens()->set_worker(worker.str());
  ca.mutable_join_tokens()->set_manager(manager.str());
  return cluster;
}

Result<security::NodeCredentials> issue_own_credentials(const security::CertificateAndKey& root,
                                                        const Membership& membership,
                                                        WallTime now) {
  security::NodeCredentials credentials;
  credentials.root_pem = root.certificate_pem;
  MUSTER_ASSIGN(credentials.node.key_pem, security::generate_key());
  MUSTER_ASSIGN(const std::string request,
                security::create_signing_request(credentials.node.key_pem));
  MUSTER_ASSIGN(credentials.node.certificate_pem,
                security::sign_request(root, request,
                                       {membership.node_id, security::CertificateRole::kManager,
                                        membership.cluster_id},
                                       now, kCertificateValidity));
  return credentials;
}

v1::Node own_node(const Membership& membership, v1::NodeSpec::Availability availability,
                  const v1::NodeDescription& description) {
  v1::Node node;
  node.set_id(membership.node_id);
  node.mutable_spec()->set_desired_role(v1::NodeSpec::MANAGER);
  node.mutable_spec()->set_availability(availability);
  *node.mutable_description() = description;
  const std::string& address = membership.advertise_addr;
  node.mutable_status()->set_address(address.substr(0, address.rfind(':')));
  node.mutable_manager_status()->set_address(address);
  node.mutable_manager_status()->set_reachable(true);
  node.set_role(v1::NodeSpec::MANAGER);
  return node;
}

}  // namespace

Daemon::Daemon(Options options, Log log)
    : options_(std::move(options)),
      log_(std::move(log)),
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
  MUSTER_ASSIGN(parts_, make_node_parts(options_, state_.instance_id, log_));
  for (const auto& limitation : parts_->runtime->info().limitations) {
    description_.add_limitations(limitation);
  }
  registries_ = std::make_unique<RegistryResolver>(main_loop_, *parts_->images);
  api_.use_registries(registries_.get());
  if (!options_.metrics_addr.empty()) {
    metrics_server_ = std::make_unique<MetricsServer>(metrics_, child_log(log_, "metrics"));
    MUSTER_TRY(metrics_server_->start(options_.metrics_addr));
  }
  if (state_.membership) {
    const auto credentials = security::load_credentials(options_.data_dir / "certificates");
    Status taken = credentials ? ok_status() : credentials.error();
    if (taken.ok()) {
      taken = run_on(lifecycle_, [&] { return take_roles(*credentials, {}); });
    }
    if (!taken.ok()) {
      // The node stays reachable and says what is wrong; its containers are not touched.
      log_->error("this node cannot take part in its swarm: {}", taken.message());
      role_error_ = taken.message();
    }
  }
  return start_local_api();
}

Status Daemon::start_local_api() {
  local_calls_ = std::make_unique<WorkPool>("local-call", kLocalCallThreads);
  const auto principal_of = [this](const grpc::ServerContextBase& context) {
    return listener_.principal(context);
  };
  manager::control::ControlServiceOptions control;
  control.service_logs =
      manager::logs::make_service_logs_call([this]() -> std::shared_ptr<manager::logs::LogBroker> {
        const auto role = manager();
        return role == nullptr ? nullptr : role->log_broker();
      });
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
  if (std::exchange(stopped_, true)) return;
  listener_.stop();
  if (local_server_ != nullptr) {
    local_server_->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(1));
  }
  run_on(lifecycle_, [this] { drop_roles("musterd stops"); });
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

std::shared_ptr<AgentRole> Daemon::agent() const {
  std::lock_guard lock(mutex_);
  return agent_;
}

// ------------------------------------------------------------ roles

Status Daemon::take_roles(const security::NodeCredentials& credentials,
                          const std::function<Status(ManagerRole&)>& before_start) {
  MUSTER_ASSIGN(auto opened,
                ManagerRole::open({main_loop_, logs_strand_, rng_, api_, log_},
                                  {options_.data_dir, *state_.membership, credentials}));
  const std::shared_ptr<ManagerRole> manager = std::move(opened);
  if (before_start) MUSTER_TRY(before_start(*manager));
  MUSTER_TRY(manager->start());
  const auto agent = std::make_shared<AgentRole>(AgentDeps{agent_strand_, rng_, *parts_, log_},
                                                 agent_config(credentials));
  MUSTER_TRY(agent->start());
  std::lock_guard lock(mutex_);
  manager_ = manager;
  agent_ = agent;
  role_error_.clear();
  return ok_status();
}

AgentConfig Daemon::agent_config(const security::NodeCredentials& credentials) const {
  AgentConfig config;
  config.instance_id = state_.instance_id;
  config.data_dir = options_.data_dir;
  config.run_dir = options_.run_dir / state_.instance_id;
  if (state_.membership) config.membership = *state_.membership;
  config.managers = {config.membership.advertise_addr};
  config.credentials = [credentials] { return credentials; };
  config.description = description_;
  config.default_log_driver = default_log_driver_;
  return config;
}

void Daemon::drop_roles(const std::string& reason) {
  std::shared_ptr<ManagerRole> manager;
  std::shared_ptr<AgentRole> agent;
  {
    std::lock_guard lock(mutex_);
    manager.swap(manager_);
    agent.swap(agent_);
  }
  if (agent != nullptr) agent->stop(v1::Goodbye::RESTART);
  if (manager != nullptr) manager->stop(reason);
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

// ------------------------------------------------------------ swarm init, leave

void Daemon::init_swarm(const v1::InitSwarmRequest& request, Callback<v1::InitSwarmResponse> done) {
  lifecycle_.post([this, request, done = std::move(done)]() mutable {
    main_loop_.post(
        [done = std::move(done), result = init(request)]() mutable { done(std::move(result)); });
  });
}

Result<v1::InitSwarmResponse> Daemon::init(const v1::InitSwarmRequest& request) {
  if (state_.membership) {
    return fail(unavailable(
        "This node is already part of a swarm. Use \"muster swarm leave\" to leave this swarm "
        "and join another one."));
  }
  MUSTER_TRY(check_address_pools(
      {request.default_address_pools().begin(), request.default_address_pools().end()},
      request.subnet_mask_bits()));
  Membership membership;
  MUSTER_ASSIGN(membership.listen_addr, find_listen_address(request.listen_addr(), kControlPort));
  const auto port = static_cast<uint16_t>(
      std::stoi(membership.listen_addr.substr(membership.listen_addr.rfind(':') + 1)));
  MUSTER_ASSIGN(membership.advertise_addr,
                find_advertise_address(
                    request.advertise_addr().empty()
                        ? membership.listen_addr.substr(0, membership.listen_addr.rfind(':'))
                        : request.advertise_addr(),
                    port));
  membership.node_id = rng_.id();
  membership.cluster_id = rng_.id();

  const WallTime now = main_loop_.clock().wall_now();
  MUSTER_ASSIGN(const security::CertificateAndKey root, security::create_root(now));
  MUSTER_ASSIGN(const manager::control::NewCluster cluster,
                new_cluster(request, membership.cluster_id, root));
  MUSTER_ASSIGN(const security::NodeCredentials credentials,
                issue_own_credentials(root, membership, now));

  // Nothing counts until node.json names the membership: what an init that was cut off left behind
  // is swept away here.
  remove_swarm_files();
  MUSTER_TRY(security::save_credentials(options_.data_dir / "certificates", credentials));
  state_.membership = membership;
  const v1::Node self = own_node(membership, request.availability(), description_);
  Status taken = take_roles(credentials,
                            [&](ManagerRole& manager) { return manager.bootstrap(cluster, self); });
  if (taken.ok()) taken = save_node_state(options_.data_dir, state_);
  if (!taken.ok()) {
    drop_roles("swarm init failed");
    std::lock_guard lock(mutex_);
    state_.membership.reset();
    remove_swarm_files();
    return fail(taken);
  }
  log_->info("swarm {} initialised; this is node {}", membership.cluster_id, membership.node_id);
  v1::InitSwarmResponse response;
  response.set_node_id(membership.node_id);
  response.set_manager_addr(membership.advertise_addr);
  *response.mutable_join_tokens() = cluster.root_ca.join_tokens();
  return response;
}

void Daemon::leave_swarm(const v1::LeaveSwarmRequest& request,
                         Callback<v1::LeaveSwarmResponse> done) {
  lifecycle_.post([this, force = request.force(), done = std::move(done)]() mutable {
    main_loop_.post([done = std::move(done), left = leave(force)]() mutable {
      if (left.ok()) {
        done(v1::LeaveSwarmResponse());
      } else {
        done(fail(left));
      }
    });
  });
}

Status Daemon::leave(bool force) {
  if (!state_.membership) {
    return unavailable("This node is not part of a swarm");
  }
  if (!force) {
    return unavailable(
        "You are attempting to leave the swarm on a node that is participating as a manager. "
        "Removing the last manager erases all current state of the swarm. Use `--force` to "
        "ignore this message.");
  }
  const auto agent = this->agent();
  const auto manager = this->manager();
  if (agent != nullptr) agent->stop(v1::Goodbye::LEAVE);
  if (manager != nullptr) manager->stop("the node leaves the swarm");
  const Status emptied = agent == nullptr ? end_left_containers() : agent->leave();
  {
    std::lock_guard lock(mutex_);
    manager_.reset();
    agent_.reset();
    state_.membership.reset();
    role_error_.clear();
  }
  MUSTER_TRY(save_node_state(options_.data_dir, state_));
  remove_swarm_files();
  MUSTER_TRY(emptied);
  end_names();
  MUSTER_TRY(parts_->runtime->teardown());
  MUSTER_TRY(parts_->network->teardown());
  log_->info("left the swarm");
  return ok_status();
}

// A node whose roles did not start may still have containers of an earlier life.
Status Daemon::end_left_containers() {
  AgentConfig config = agent_config({});
  config.managers = {"127.0.0.1:1"};  // of one that is never asked
  config.names = false;
  end_names();
  AgentRole agent(AgentDeps{agent_strand_, rng_, *parts_, log_}, config);
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
  MUSTER_ASSIGN(parts_, make_node_parts(options_, state_.instance_id, log_));
  const Status ended = run_on(lifecycle_, [this] { return end_left_containers(); });
  sweep_host();  // what did not end in time is killed with its cgroup
  return ended;
}

// ------------------------------------------------------------ info

void Daemon::get_info(Callback<v1::GetInfoResponse> done) {
  // Asks other strands, so it waits elsewhere.
  auto shared = std::make_shared<Callback<v1::GetInfoResponse>>(std::move(done));
  const bool queued = local_calls_->post([this, shared] {
    main_loop_.post([shared, answer = info()]() mutable { (*shared)(std::move(answer)); });
  });
  if (!queued) (*shared)(fail(resource_exhausted("too many requests wait on this node")));
}

std::string Daemon::node_id() const {
  std::lock_guard lock(mutex_);
  return state_.membership ? state_.membership->node_id : std::string();
}

Result<std::string> Daemon::new_join_token(const v1::Cluster& cluster) {
  MUSTER_ASSIGN(const auto token, security::create_join_token(cluster.root_ca().certificate_pem()));
  return token.str();
}

std::string Daemon::role_error() const {
  std::lock_guard lock(mutex_);
  return role_error_;
}

v1::GetInfoResponse Daemon::info() {
  v1::GetInfoResponse out;
  std::shared_ptr<ManagerRole> manager;
  {
    std::lock_guard lock(mutex_);
    manager = manager_;
    if (state_.membership) {
      out.set_local_state(role_error_.empty() ? "active" : "error");
      out.set_node_id(state_.membership->node_id);
      out.set_cluster_id(state_.membership->cluster_id);
      const std::string& addr = state_.membership->advertise_addr;
      out.set_node_addr(addr.substr(0, addr.rfind(':')));
    } else {
      out.set_local_state("inactive");
    }
    out.set_error(role_error_);
  }
  out.set_control_available(manager != nullptr);
  if (manager != nullptr) {
    manager->snapshot().each<v1::Node>([&](const manager::store::Ptr<v1::Node>& node) {
      out.set_nodes(out.nodes() + 1);
      if (node->role() == v1::NodeSpec::MANAGER) out.set_managers(out.managers() + 1);
      return true;
    });
  }
  *out.mutable_description() = description_;
  const auto runtime = parts_->runtime->info();
  out.set_runtime(runtime.name);
  out.set_cgroup_version(runtime.cgroup_version);
  out.set_balancer("nftables");
  out.set_kernel(kernel_release());
  out.set_os(os_name());
  out.set_data_dir(options_.data_dir.string());
  out.set_version(MUSTER_VERSION);
  if (const auto images = parts_->images->list()) {
    out.set_images(static_cast<uint32_t>(images->size()));
  }
  if (const auto role = agent()) {
    uint32_t running = 0;
    for (const auto& task : role->tasks()) {
      if (task.status().state() == v1::TASK_RUNNING) ++running;
    }
    out.set_containers_running(running);
  }
  return out;
}

}  // namespace muster::daemon
