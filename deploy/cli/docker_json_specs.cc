#include "deploy/cli/docker_json.h"
#include "deploy/cli/docker_json_parts.h"
#include "deploy/cli/names.h"
#include "overlay/balancer/spread_policy.h"

namespace muster::deploy::cli {
namespace internal {

boost::json::array ports_json(const google::protobuf::RepeatedPtrField<v1::PortConfig>& ports) {
  boost::json::array out;
  for (const auto& port : ports) {
    boost::json::object item;
    put(item, "Name", port.name());
    item["Protocol"] = protocol_name(port.protocol());
    item["TargetPort"] = port.target_port();
    put_number(item, "PublishedPort", port.published_port());
    item["PublishMode"] = port.mode() == v1::PortConfig::HOST ? "host" : "ingress";
    put(item, "Bind", port.bind());
    put_true(item, "Local", port.local());
    if (port.client_address() != v1::PortConfig::AUTOMATIC)
      item["ClientAddress"] = client_address_name(port.client_address());
    put_number(item, "ProxyProtocol", port.proxy_protocol());
    out.push_back(std::move(item));
  }
  return out;
}

boost::json::array generic_json(
    const google::protobuf::RepeatedPtrField<v1::GenericResource>& resources) {
  boost::json::array out;
  for (const auto& resource : resources) {
    for (const auto& name : resource.names())
      out.push_back(
          boost::json::object{{"NamedResourceSpec", {{"Kind", resource.kind()}, {"Value", name}}}});
    if (resource.names().empty())
      out.push_back(boost::json::object{
          {"DiscreteResourceSpec", {{"Kind", resource.kind()}, {"Value", resource.count()}}}});
  }
  return out;
}

boost::json::object endpoint_spec_json(const v1::EndpointSpec& endpoint) {
  boost::json::object out;
  out["Mode"] = endpoint.mode() == v1::EndpointSpec::DNSRR ? "dnsrr" : "vip";
  put(out, "Ports", ports_json(endpoint.ports()));
  if (endpoint.balancing() != v1::EndpointSpec::ROUND_ROBIN)
    out["Balancing"] = std::string(overlay::balancing_name(endpoint.balancing()));
  put_number(out, "Affinity", endpoint.affinity_ns());
  put(out, "WeightLabel", endpoint.weight_label());
  if (endpoint.has_drain_timeout_ns()) out["DrainTimeout"] = endpoint.drain_timeout_ns();
  return out;
}

}  // namespace internal

namespace {

using namespace internal;  // NOLINT: the parts are made for this file

boost::json::object mount_json(const v1::Mount& mount) {
  boost::json::object out;
  out["Type"] = mount_type_name(mount.type());
  put(out, "Source", mount.source());
  put(out, "Target", mount.target());
  put_true(out, "ReadOnly", mount.read_only());
  if (mount.has_bind()) {
    boost::json::object bind;
    put(bind, "Propagation", mount.bind().propagation());
    put_true(bind, "NonRecursive", mount.bind().non_recursive());
    put_true(bind, "CreateMountpoint", mount.bind().create_source());
    put_true(bind, "ReadOnlyNonRecursive", mount.bind().read_only_non_recursive());
    put_true(bind, "ReadOnlyForceRecursive", mount.bind().read_only_force_recursive());
    out["BindOptions"] = std::move(bind);
  }
  if (mount.has_volume()) {
    const auto& options = mount.volume();
    boost::json::object volume;
    put_true(volume, "NoCopy", options.no_copy());
    put(volume, "Labels", pairs_json(options.labels()));
    put(volume, "Subpath", options.subpath());
    if (!options.driver().empty() || !options.driver_options().empty()) {
      boost::json::object driver;
      put(driver, "Name", options.driver());
      put(driver, "Options", pairs_json(options.driver_options()));
      volume["DriverConfig"] = std::move(driver);
    }
    out["VolumeOptions"] = std::move(volume);
  }
  if (mount.has_image()) {
    boost::json::object image;
    put(image, "Subpath", mount.image().subpath());
    out["ImageOptions"] = std::move(image);
  }
  if (mount.has_tmpfs()) {
    boost::json::object tmpfs;
    put_number(tmpfs, "SizeBytes", mount.tmpfs().size_bytes());
    put_number(tmpfs, "Mode", mount.tmpfs().mode());
    out["TmpfsOptions"] = std::move(tmpfs);
  }
  return out;
}

boost::json::object health_json(const v1::HealthCheck& health) {
  boost::json::object out;
  put(out, "Test", strings_json(health.test()));
  put_number(out, "Interval", health.interval_ns());
  put_number(out, "Timeout", health.timeout_ns());
  put_number(out, "StartPeriod", health.start_period_ns());
  put_number(out, "StartInterval", health.start_interval_ns());
  put_number(out, "Retries", health.retries());
  return out;
}

boost::json::object file_json(const v1::FileTarget& file) {
  return {{"Name", file.name()},
          {"UID", file.uid().empty() ? "0" : file.uid()},
          {"GID", file.gid().empty() ? "0" : file.gid()},
          {"Mode", file.mode()}};
}

void put_references(boost::json::object& out, const v1::ContainerSpec& spec) {
  boost::json::array secrets;
  for (const auto& secret : spec.secrets())
    secrets.push_back({{"File", file_json(secret.file())},
                       {"SecretID", secret.secret_id()},
                       {"SecretName", secret.secret_name()}});
  put(out, "Secrets", std::move(secrets));
  boost::json::array configs;
  for (const auto& config : spec.configs())
    configs.push_back({{"File", file_json(config.file())},
                       {"ConfigID", config.config_id()},
                       {"ConfigName", config.config_name()}});
  put(out, "Configs", std::move(configs));
}

void put_limits(boost::json::object& out, const v1::ContainerSpec& spec) {
  put(out, "Sysctls", pairs_json(spec.sysctls()));
  put(out, "CapabilityAdd", strings_json(spec.capability_add()));
  put(out, "CapabilityDrop", strings_json(spec.capability_drop()));
  boost::json::array ulimits;
  for (const auto& ulimit : spec.ulimits())
    ulimits.push_back({{"Name", ulimit.name()}, {"Soft", ulimit.soft()}, {"Hard", ulimit.hard()}});
  put(out, "Ulimits", std::move(ulimits));
  put_number(out, "OomScoreAdj", spec.oom_score_adj());
}

boost::json::object container_json(const v1::ContainerSpec& spec) {
  boost::json::object out;
  out["Image"] = spec.image();
  put(out, "Labels", pairs_json(spec.labels()));
  put(out, "Command", strings_json(spec.command()));
  put(out, "Args", strings_json(spec.args()));
  put(out, "Hostname", spec.hostname());
  put(out, "Env", strings_json(spec.env()));
  put(out, "Dir", spec.dir());
  put(out, "User", spec.user());
  put(out, "Groups", strings_json(spec.groups()));
  put(out, "StopSignal", spec.stop_signal());
  put_true(out, "TTY", spec.tty());
  put_true(out, "OpenStdin", spec.open_stdin());
  put_true(out, "ReadOnly", spec.read_only());
  boost::json::array mounts;
  for (const auto& mount : spec.mounts()) mounts.push_back(mount_json(mount));
  put(out, "Mounts", std::move(mounts));
  if (spec.has_stop_grace_period_ns()) out["StopGracePeriod"] = spec.stop_grace_period_ns();
  if (spec.has_healthcheck()) out["Healthcheck"] = health_json(spec.healthcheck());
  put(out, "Hosts", strings_json(spec.hosts()));
  if (spec.has_dns()) {
    boost::json::object dns;
    put(dns, "Nameservers", strings_json(spec.dns().nameservers()));
    put(dns, "Search", strings_json(spec.dns().search()));
    put(dns, "Options", strings_json(spec.dns().options()));
    out["DNSConfig"] = std::move(dns);
  }
  put_references(out, spec);
  if (spec.has_init()) out["Init"] = spec.init();
  put_limits(out, spec);
  put_true(out, "Privileged", spec.privileged());
  put(out, "SecurityOptions", strings_json(spec.security_options()));
  return out;
}

boost::json::object amounts_json(const v1::Resources& resources) {
  boost::json::object out;
  put_number(out, "NanoCPUs", resources.nano_cpus());
  put_number(out, "MemoryBytes", resources.memory_bytes());
  put_number(out, "Pids", resources.pids());
  put(out, "GenericResources", generic_json(resources.generic()));
  return out;
}

boost::json::object resources_json(const v1::ResourceRequirements& resources) {
  boost::json::object out;
  if (resources.has_limits()) out["Limits"] = amounts_json(resources.limits());
  if (resources.has_reservations()) out["Reservations"] = amounts_json(resources.reservations());
  if (resources.has_memory_swap_bytes()) out["SwapBytes"] = resources.memory_swap_bytes();
  if (resources.has_memory_swappiness()) out["MemorySwappiness"] = resources.memory_swappiness();
  return out;
}

boost::json::object restart_json(const v1::RestartPolicy& restart) {
  boost::json::object out;
  out["Condition"] = restart_condition_name(restart.condition());
  if (restart.has_delay_ns()) out["Delay"] = restart.delay_ns();
  out["MaxAttempts"] = restart.max_attempts();
  if (restart.has_window_ns()) out["Window"] = restart.window_ns();
  return out;
}

boost::json::object placement_json(const v1::Placement& placement) {
  boost::json::object out;
  put(out, "Constraints", strings_json(placement.constraints()));
  boost::json::array preferences;
  for (const auto& preference : placement.preferences())
    preferences.push_back(boost::json::object{
        {"Spread", boost::json::object{{"SpreadDescriptor", preference.spread_descriptor()}}}});
  put(out, "Preferences", std::move(preferences));
  put_number(out, "MaxReplicas", static_cast<int64_t>(placement.max_replicas()));
  boost::json::array platforms;
  for (const auto& platform : placement.platforms())
    platforms.push_back({{"Architecture", platform.architecture()}, {"OS", platform.os()}});
  put(out, "Platforms", std::move(platforms));
  return out;
}

boost::json::object update_json(const v1::UpdateConfig& update) {
  boost::json::object out;
  out["Parallelism"] = update.parallelism();
  put_number(out, "Delay", update.delay_ns());
  out["FailureAction"] = failure_action_name(update.failure_action());
  if (update.has_monitor_ns()) out["Monitor"] = update.monitor_ns();
  const uint32_t ppm = update.max_failure_ratio_ppm();
  if (ppm == 0)
    out["MaxFailureRatio"] = 0;
  else
    out["MaxFailureRatio"] = ppm / 1e6;
  if (update.has_progress_deadline_ns()) out["ProgressDeadline"] = update.progress_deadline_ns();
  out["Order"] = update.order() == v1::UpdateConfig::START_FIRST ? "start-first" : "stop-first";
  return out;
}

boost::json::object mode_json(const v1::ServiceSpec& spec) {
  switch (spec.mode_case()) {
    case v1::ServiceSpec::kGlobal: return {{"Global", boost::json::object()}};
    case v1::ServiceSpec::kGlobalJob: return {{"GlobalJob", boost::json::object()}};
    case v1::ServiceSpec::kReplicatedJob:
      return {{"ReplicatedJob",
               {{"MaxConcurrent", spec.replicated_job().max_concurrent()},
                {"TotalCompletions", spec.replicated_job().total_completions()}}}};
    case v1::ServiceSpec::kReplicated:
    case v1::ServiceSpec::MODE_NOT_SET: break;
  }
  return {{"Replicated", {{"Replicas", spec.replicated().replicas()}}}};
}

}  // namespace

boost::json::object task_spec_json(const v1::TaskSpec& spec) {
  boost::json::object out;
  out["ContainerSpec"] = container_json(spec.container());
  if (spec.has_resources()) out["Resources"] = resources_json(spec.resources());
  if (spec.has_restart()) out["RestartPolicy"] = restart_json(spec.restart());
  if (spec.has_placement()) out["Placement"] = placement_json(spec.placement());
  boost::json::array networks;
  for (const auto& network : spec.networks()) {
    boost::json::object item;
    item["Target"] = network.target();
    put(item, "Aliases", strings_json(network.aliases()));
    put(item, "DriverOpts", pairs_json(network.driver_options()));
    networks.push_back(std::move(item));
  }
  put(out, "Networks", std::move(networks));
  if (spec.has_log_driver()) {
    boost::json::object driver;
    put(driver, "Name", spec.log_driver().name());
    put(driver, "Options", pairs_json(spec.log_driver().options()));
    out["LogDriver"] = std::move(driver);
  }
  out["ForceUpdate"] = spec.force_update();
  out["Runtime"] = "container";
  return out;
}

boost::json::object service_spec_json(const v1::ServiceSpec& spec) {
  boost::json::object out;
  out["Name"] = spec.annotations().name();
  out["Labels"] = pairs_json(spec.annotations().labels());
  out["TaskTemplate"] = task_spec_json(spec.task());
  out["Mode"] = mode_json(spec);
  if (spec.has_update()) out["UpdateConfig"] = update_json(spec.update());
  if (spec.has_rollback()) out["RollbackConfig"] = update_json(spec.rollback());
  out["EndpointSpec"] = endpoint_spec_json(spec.endpoint());
  return out;
}

}  // namespace muster::deploy::cli
