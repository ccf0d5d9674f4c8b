#include "tests/sim/sim_client.h"

#include <utility>

namespace muster::sim {

using manager::control::Callback;
using manager::control::ControlApi;

namespace {

constexpr uint64_t kReplicasMax = 6;

bool is_uncertain(const Status& status) {
  switch (status.code()) {
    case StatusCode::kUnknown:
    case StatusCode::kUnavailable:
    case StatusCode::kDeadlineExceeded: return true;
    case StatusCode::kResourceExhausted: return status.reason() == "disk-full";
    default: return false;
  }
}

}  // namespace

SimClient::SimClient(Deps deps)
    : deps_(std::move(deps)),
      rng_(deps_.rng),
      api_(deps_.api),
      broken_(deps_.broken),
      strand_(deps_.world) {
  user_.kind = manager::control::Principal::Kind::kLocalUser;
}

bool SimClient::ever_start_first(const std::string& name) const {
  return start_first_.contains(name);
}

// ---------------------------------------------------------------- one operation

template <class Request, class Response>
void SimClient::run(Method<Request, Response> method,
                    std::function<std::optional<Request>(const ControlApi&)> make,
                    std::function<void(const Request&)> done, StatusCode never) {
  ++operations_;
  uncertain_ = false;
  auto request = std::make_shared<std::optional<Request>>();
  attempt_ = [this, method, make = std::move(make), done = std::move(done), never, request] {
    const uint64_t number = ++attempt_number_;
    ControlApi* api = api_();
    if (api == nullptr) return again(number, 100ms);
    if (!*request) {
      *request = make(*api);
      if (!*request) {
        attempt_ = nullptr;
        return;
      }
      (*request)->set_request_id(rng_.id());
      deps_.trace("the client asks: " + (*request)->GetTypeName() + " " +
                  (*request)->ShortDebugString().substr(0, 400));
    }
    again(number, 3s);  // should no answer come
    api->strand().post([this, api, method, number, done, never, request] {
      (api->*method)(
          user_, **request,
          Callback<Response>([this, number, done, never, request](Result<Response> result) {
            strand_.post([this, number, done, never, request,
                          status = result ? ok_status() : result.error()] {
              answered(number, status, never, [&] { done(**request); });
            });
          }));
    });
  };
  strand_.post([this] { try_now(); });
}

void SimClient::try_now() {
  const auto attempt = attempt_;  // a copy: it may end itself
  if (attempt) attempt();
}

void SimClient::again(uint64_t number, Duration delay) {
  strand_.after(delay, [this, number] {
    if (number == attempt_number_) try_now();
  });
}

void SimClient::answered(uint64_t number, const Status& status, StatusCode never,
                         const std::function<void()>& done) {
  if (!attempt_ || number != attempt_number_) return;  // of an earlier try
  if (is_uncertain(status)) {
    uncertain_ = true;
    if (status.reason() == "disk-full") deps_.probes.hit("write refused by a full disk");
    if (status.code() == StatusCode::kUnknown) {
      deps_.probes.hit("outcome unknown to the client");
      deps_.probes.hit("leader lost in the middle of a write");
    }
    ++attempt_number_;  // the wait for an answer is over
    return again(attempt_number_, 50ms);
  }
  attempt_ = nullptr;
  deps_.trace("the client is told: " + (status.ok() ? "done" : status.to_string()));
  if (status.ok()) {
    if (uncertain_) deps_.probes.hit("request repeated and found done");
    done();
  } else if (status.code() == never) {
    broken_("the client was told: " + status.to_string());
  }
}

// ---------------------------------------------------------------- what users do

v1::ServiceSpec SimClient::random_spec(const std::string& name) {
  v1::ServiceSpec spec;
  spec.mutable_annotations()->set_name(name);
  if (name == "s0" || name == "s1") {
    spec.mutable_global();
  } else if (name == "s6") {
    // Now and then so large that finished tasks are collected.
    const bool large = rng_.below(6) == 0;
    v1::ReplicatedJob& job = *spec.mutable_replicated_job();
    job.set_total_completions(large ? 60 : rng_.below(kReplicasMax + 1));
    job.set_max_concurrent(large ? 6 + rng_.below(4) : rng_.below(4));
  } else if (name == "s7") {
    spec.mutable_global_job();
  } else {
    spec.mutable_replicated()->set_replicas(rng_.below(kReplicasMax + 1));
  }
  v1::TaskSpec& task = *spec.mutable_task();
  task.mutable_container()->set_image(fmt::format("image:{}", rng_.below(4)));
  task.mutable_restart()->set_condition(static_cast<v1::RestartPolicy::Condition>(rng_.below(3)));
  task.mutable_restart()->set_delay_ns(Duration(500ms).count() *
                                       static_cast<int64_t>(rng_.below(4)));
  task.mutable_restart()->set_max_attempts(rng_.below(3));
  add_references(*task.mutable_container());
  add_container_matters(spec);
  if (rng_.below(4) == 0) task.mutable_placement()->add_constraints("node.labels.zone == a");
  if (rng_.below(4) == 0) {
    task.mutable_resources()->mutable_reservations()->set_memory_bytes(256 << 20);
  }
  if (rng_.below(3) == 0 && !networks_.empty()) {
    auto network = networks_.begin();
    std::advance(network, rng_.below(networks_.size()));
    task.add_networks()->set_target(*network);
  }
  const uint64_t ports = rng_.below(6);
  if (ports < 2) {
    v1::PortConfig& port = *spec.mutable_endpoint()->add_ports();
    port.set_target_port(80);
    port.set_mode(ports == 0 ? v1::PortConfig::HOST : v1::PortConfig::INGRESS);
    port.set_published_port(static_cast<uint32_t>(8000 + rng_.below(3)));
  }
  if (spec.has_replicated_job() || spec.has_global_job()) return spec;
  v1::UpdateConfig& update = *spec.mutable_update();
  update.set_parallelism(rng_.below(3));
  update.set_delay_ns(Duration(1s).count() * static_cast<int64_t>(rng_.below(2)));
  update.set_failure_action(static_cast<v1::UpdateConfig::FailureAction>(rng_.below(3)));
  update.set_monitor_ns(Duration(1s).count() * static_cast<int64_t>(rng_.below(6)));
  update.set_max_failure_ratio_ppm(rng_.below(2) == 0 ? 0 : 500'000);
  update.set_order(rng_.below(3) == 0 ? v1::UpdateConfig::START_FIRST
                                      : v1::UpdateConfig::STOP_FIRST);
  return spec;
}

void SimClient::create(v1::ServiceSpec spec) {
  const std::string name = spec.annotations().name();
  if (spec.update().order() == v1::UpdateConfig::START_FIRST) start_first_.insert(name);
  run<v1::CreateServiceRequest, v1::CreateServiceResponse>(
      &ControlApi::create_service,
      [spec](const ControlApi&) {
        v1::CreateServiceRequest request;
        *request.mutable_spec() = spec;
        return request;
      },
      [this, name](const v1::CreateServiceRequest& request) { services_[name] = request.spec(); },
      StatusCode::kAlreadyExists);
}

void SimClient::update(const std::string& name, std::function<void(v1::ServiceSpec&)> change) {
  run<v1::UpdateServiceRequest, v1::UpdateServiceResponse>(
      &ControlApi::update_service,
      [this, name, change](const ControlApi& api) -> std::optional<v1::UpdateServiceRequest> {
        v1::GetServiceRequest get;
        get.set_service(name);
        const auto known = api.get_service(user_, get);
        if (!known) {
          broken_("the client looks for " + name + ": " + known.error().to_string());
          return std::nullopt;
        }
        v1::UpdateServiceRequest request;
        request.set_service_id(known->service().id());
        request.set_version(known->service().meta().version());
        *request.mutable_spec() = known->service().spec();
        change(*request.mutable_spec());
        if (request.spec().update().order() == v1::UpdateConfig::START_FIRST) {
          start_first_.insert(name);
        }
        return request;
      },
      [this, name](const v1::UpdateServiceRequest& request) { services_[name] = request.spec(); },
      StatusCode::kNotFound);
}

void SimClient::remove(const std::string& name) {
  run<v1::RemoveServiceRequest, v1::RemoveServiceResponse>(
      &ControlApi::remove_service,
      [name](const ControlApi&) {
        v1::RemoveServiceRequest request;
        request.set_service(name);
        return request;
      },
      [this, name](const v1::RemoveServiceRequest&) { services_.erase(name); },
      StatusCode::kNotFound);
}

void SimClient::change_node(const std::string& id, std::function<void(v1::NodeSpec&)> change) {
  run<v1::UpdateNodeRequest, v1::UpdateNodeResponse>(
      &ControlApi::update_node,
      [this, id, change](const ControlApi& api) -> std::optional<v1::UpdateNodeRequest> {
        v1::GetNodeRequest get;
        get.set_node(id);
        const auto known = api.get_node(user_, get);
        if (!known) return std::nullopt;
        v1::UpdateNodeRequest request;
        request.set_node_id(id);
        request.set_version(known->node().meta().version());
        *request.mutable_spec() = known->node().spec();
        change(*request.mutable_spec());
        return request;
      },
      [](const v1::UpdateNodeRequest&) {}, StatusCode::kNotFound);
}

void SimClient::make_network(const std::string& name) {
  run<v1::CreateNetworkRequest, v1::CreateNetworkResponse>(
      &ControlApi::create_network,
      [name](const ControlApi&) {
        v1::CreateNetworkRequest request;
        request.mutable_spec()->mutable_annotations()->set_name(name);
        request.mutable_spec()->set_attachable(true);
        if (name == "wide") request.mutable_spec()->add_driver_options()->set_key("encrypted");
        if (name == "small") request.mutable_spec()->add_pools()->set_subnet("172.20.0.0/28");
        return request;
      },
      [this, name](const v1::CreateNetworkRequest&) { networks_.insert(name); },
      StatusCode::kAlreadyExists);
}

void SimClient::remove_network(const std::string& name) {
  run<v1::RemoveNetworkRequest, v1::RemoveNetworkResponse>(
      &ControlApi::remove_network,
      [name](const ControlApi&) {
        v1::RemoveNetworkRequest request;
        request.set_network(name);
        return request;
      },
      [this, name](const v1::RemoveNetworkRequest&) { networks_.erase(name); },
      StatusCode::kNotFound);
}

// Refused where it has the subnet already.
void SimClient::grow_network(const std::string& name) {
  run<v1::UpdateNetworkRequest, v1::UpdateNetworkResponse>(
      &ControlApi::update_network,
      [name, number = rng_.below(2)](const ControlApi&) {
        v1::UpdateNetworkRequest request;
        request.set_network(name);
        const uint64_t at = name == "small" ? 1 + number : 8 + number;
        request.add_add_pools()->set_subnet(fmt::format("172.20.0.{}/28", at * 16));
        return request;
      },
      [this](const v1::UpdateNetworkRequest&) { deps_.probes.hit("network grown"); },
      StatusCode::kNotFound);
}

void SimClient::connect_task(const std::string& network) {
  run<v1::ConnectNetworkRequest, v1::ConnectNetworkResponse>(
      &ControlApi::connect_network,
      [this, network, pick = rng_.below(1000),
       wanted = rng_.below(4)](const ControlApi& api) -> std::optional<v1::ConnectNetworkRequest> {
        const auto tasks = api.list_tasks(user_, {});
        if (!tasks || tasks->tasks().empty()) return std::nullopt;
        v1::ConnectNetworkRequest request;
        request.set_network(network);
        const int at = static_cast<int>(pick % static_cast<uint64_t>(tasks->tasks_size()));
        request.set_task(tasks->tasks(at).id());
        request.add_aliases("alias");
        if (wanted == 0 && network == "small") request.add_addresses("172.20.0.14");
        return request;
      },
      [this](const v1::ConnectNetworkRequest&) { deps_.probes.hit("task connected"); },
      StatusCode::kInternal);
}

void SimClient::disconnect_task() {
  run<v1::DisconnectNetworkRequest, v1::DisconnectNetworkResponse>(
      &ControlApi::disconnect_network,
      [this](const ControlApi& api) -> std::optional<v1::DisconnectNetworkRequest> {
        const auto tasks = api.list_tasks(user_, {});
        if (!tasks) return std::nullopt;
        for (const v1::Task& task : tasks->tasks()) {
          if (task.connected().empty() || task.status().state() != v1::TASK_RUNNING) continue;
          v1::DisconnectNetworkRequest request;
          request.set_network(task.connected(0).target());
          request.set_task(task.id());
          return request;
        }
        return std::nullopt;
      },
      [this](const v1::DisconnectNetworkRequest&) { deps_.probes.hit("task disconnected"); },
      StatusCode::kInternal);
}

// What only the hosts' workers look at.
void SimClient::add_container_matters(v1::ServiceSpec& spec) {
  v1::ContainerSpec& container = *spec.mutable_task()->mutable_container();
  if (rng_.below(3) == 0) {
    container.set_stop_grace_period_ns(Duration(1s).count() * static_cast<int64_t>(rng_.below(4)));
  }
  if (rng_.below(4) == 0) {
    v1::Mount& mount = *container.add_mounts();
    mount.set_type(v1::Mount::VOLUME);
    mount.set_source("kept");
    mount.set_target("/kept");
  }
  if (rng_.below(3) != 0) return;
  v1::HealthCheck& check = *container.mutable_healthcheck();
  check.add_test("CMD");
  check.add_test("check");
  check.set_interval_ns(Duration(4s).count());
  check.set_timeout_ns(Duration(2s).count());
  check.set_retries(2);
  check.set_start_interval_ns(Duration(1s).count());
  check.set_start_period_ns(Duration(3s).count() * static_cast<int64_t>(rng_.below(2)));
}

void SimClient::add_references(v1::ContainerSpec& container) {
  for (const auto& [name, data] : secrets_) {
    if (rng_.below(3) != 0) continue;
    v1::SecretReference& reference = *container.add_secrets();
    reference.set_secret_name(name);
    reference.mutable_file()->set_name(name);
  }
  for (const auto& [name, data] : configs_) {
    if (rng_.below(3) != 0) continue;
    v1::ConfigReference& reference = *container.add_configs();
    reference.set_config_name(name);
    reference.mutable_file()->set_name(name);
  }
}

void SimClient::make_secret(const std::string& name) {
  // Some are cut into pieces.
  const std::string data = rng_.id() + std::string(rng_.below(4) == 0 ? 400'000 : 0, 's');
  run<v1::CreateSecretRequest, v1::CreateSecretResponse>(
      &ControlApi::create_secret,
      [name, data](const ControlApi&) {
        v1::CreateSecretRequest request;
        request.mutable_spec()->mutable_annotations()->set_name(name);
        request.mutable_spec()->set_data(data);
        return request;
      },
      [this, name](const v1::CreateSecretRequest& r) { secrets_[name] = r.spec().data(); },
      StatusCode::kAlreadyExists);
}

// Refused while a service has it, or may go back to it.
void SimClient::remove_secret(const std::string& name) {
  run<v1::RemoveSecretRequest, v1::RemoveSecretResponse>(
      &ControlApi::remove_secret,
      [name](const ControlApi&) {
        v1::RemoveSecretRequest request;
        request.set_secret(name);
        return request;
      },
      [this, name](const v1::RemoveSecretRequest&) { secrets_.erase(name); },
      StatusCode::kNotFound);
}

void SimClient::make_config(const std::string& name) {
  run<v1::CreateConfigRequest, v1::CreateConfigResponse>(
      &ControlApi::create_config,
      [name, data = rng_.id()](const ControlApi&) {
        v1::CreateConfigRequest request;
        request.mutable_spec()->mutable_annotations()->set_name(name);
        request.mutable_spec()->set_data(data);
        return request;
      },
      [this, name](const v1::CreateConfigRequest& r) { configs_[name] = r.spec().data(); },
      StatusCode::kAlreadyExists);
}

void SimClient::remove_config(const std::string& name) {
  run<v1::RemoveConfigRequest, v1::RemoveConfigResponse>(
      &ControlApi::remove_config,
      [name](const ControlApi&) {
        v1::RemoveConfigRequest request;
        request.set_config(name);
        return request;
      },
      [this, name](const v1::RemoveConfigRequest&) { configs_.erase(name); },
      StatusCode::kNotFound);
}

void SimClient::change_payloads() {
  const std::string name = fmt::format("p{}", rng_.below(3));
  if (rng_.below(3) == 0) {
    configs_.contains(name) ? remove_config(name) : make_config(name);
  } else {
    secrets_.contains(name) ? remove_secret(name) : make_secret(name);
  }
}

void SimClient::act() {
  const std::string name = fmt::format("s{}", rng_.below(deps_.services));
  const std::string network = rng_.below(2) == 0 ? "small" : "wide";
  const std::string node = deps_.node_ids[rng_.below(deps_.node_ids.size())];
  switch (rng_.below(13)) {
    case 10: return change_payloads();
    case 11:
      if (!networks_.contains(network)) return make_network(network);
      return rng_.below(3) == 0 ? grow_network(network) : connect_task(network);
    case 12:
      if (!networks_.contains(network)) return make_network(network);
      return rng_.below(2) == 0 ? disconnect_task() : connect_task(network);
    case 0:
      if (networks_.contains(network)) {
        remove_network(network);
      } else {
        make_network(network);
      }
      return;
    case 1:
      return change_node(node, [zone = rng_.below(2) == 0](v1::NodeSpec& spec) {
        spec.mutable_annotations()->clear_labels();
        if (!zone) return;
        spec.mutable_annotations()->add_labels()->set_key("zone");
        spec.mutable_annotations()->mutable_labels(0)->set_value("a");
      });
    case 2:
      return change_node(node, [to = rng_.below(3)](v1::NodeSpec& spec) {
        spec.set_availability(static_cast<v1::NodeSpec::Availability>(to));
      });
    default: break;
  }
  if (!services_.contains(name)) return create(random_spec(name));
  switch (rng_.below(6)) {
    case 0: return remove(name);
    case 1:
    case 2:
      return update(name, [replicas = rng_.below(kReplicasMax + 1)](v1::ServiceSpec& spec) {
        if (spec.has_replicated()) spec.mutable_replicated()->set_replicas(replicas);
        if (spec.has_replicated_job()) {
          spec.mutable_replicated_job()->set_total_completions(replicas);
        }
      });
    case 3:
      return update(name, [](v1::ServiceSpec& spec) {
        spec.mutable_task()->set_force_update(spec.task().force_update() + 1);
      });
    default:
      return update(name, [next = random_spec(name)](v1::ServiceSpec& spec) { spec = next; });
  }
}

bool SimClient::clean_up_one() {
  if (!services_.empty()) {
    remove(services_.begin()->first);
  } else if (!secrets_.empty()) {
    remove_secret(secrets_.begin()->first);
  } else if (!configs_.empty()) {
    remove_config(configs_.begin()->first);
  } else {
    return false;
  }
  return true;
}

bool SimClient::heal_one(const std::vector<std::string>& node_ids) {
  const ControlApi* api = api_();
  if (api == nullptr) return true;
  for (const std::string& id : node_ids) {
    v1::GetNodeRequest get;
    get.set_node(id);
    const auto known = api->get_node(user_, get);
    if (!known || known->node().spec().availability() == v1::NodeSpec::ACTIVE) continue;
    change_node(id, [](v1::NodeSpec& spec) { spec.set_availability(v1::NodeSpec::ACTIVE); });
    return true;
  }
  return false;
}

}  // namespace muster::sim
