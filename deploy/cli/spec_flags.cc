#include "deploy/cli/spec_flags.h"

#include <algorithm>
#include <set>

#include "deploy/cli/listing.h"
#include "deploy/cli/names.h"
#include "deploy/cli/quantities.h"
#include "overlay/balancer/spread_policy.h"
#include "overlay/ipam/port_options.h"

namespace muster::deploy::cli {
namespace {

using google::protobuf::RepeatedPtrField;

constexpr int64_t kSecond = 1'000'000'000;

Result<v1::UpdateConfig::FailureAction> parse_failure_action(const std::string& text,
                                                             bool rollback_allowed) {
  if (text == "pause") return v1::UpdateConfig::PAUSE;
  if (text == "continue") return v1::UpdateConfig::CONTINUE;
  if (text == "rollback" && rollback_allowed) return v1::UpdateConfig::ROLLBACK;
  return fail(usage_error(
      fmt::format("invalid failure action \"{}\": {}", text,
                  rollback_allowed ? "pause, continue or rollback" : "pause or continue")));
}

Status apply_update(const UpdateFlags& flags, const std::string& prefix, bool rollback_allowed,
                    v1::UpdateConfig* config) {
  const auto name = [&prefix](const char* part) { return prefix + "-" + part; };
  if (flags.parallelism) {
    MUSTER_ASSIGN(const uint64_t n,
                  parsed(name("parallelism").c_str(), *flags.parallelism, parse_unsigned));
    config->set_parallelism(n);
  }
  if (flags.delay) {
    MUSTER_ASSIGN(const int64_t ns, parsed(name("delay").c_str(), *flags.delay, parse_duration_ns));
    config->set_delay_ns(ns);
  }
  if (flags.monitor) {
    MUSTER_ASSIGN(const int64_t ns,
                  parsed(name("monitor").c_str(), *flags.monitor, parse_duration_ns));
    config->set_monitor_ns(ns);
  }
  if (flags.deadline) {
    MUSTER_ASSIGN(const int64_t ns,
                  parsed(name("progress-deadline").c_str(), *flags.deadline, parse_duration_ns));
    config->set_progress_deadline_ns(ns);
  }
  if (flags.failure_action) {
    MUSTER_ASSIGN(const auto action, parse_failure_action(*flags.failure_action, rollback_allowed));
    config->set_failure_action(action);
  }
  if (flags.max_failure_ratio) {
    MUSTER_ASSIGN(const uint32_t ppm, parsed(name("max-failure-ratio").c_str(),
                                             *flags.max_failure_ratio, parse_ratio_ppm));
    config->set_max_failure_ratio_ppm(ppm);
  }
  if (flags.order) {
    if (*flags.order != "start-first" && *flags.order != "stop-first")
      return usage_error(
          fmt::format("invalid order \"{}\": start-first or stop-first", *flags.order));
    config->set_order(*flags.order == "start-first" ? v1::UpdateConfig::START_FIRST
                                                    : v1::UpdateConfig::STOP_FIRST);
  }
  return ok_status();
}

v1::UpdateConfig default_update() {
  v1::UpdateConfig config;
  config.set_parallelism(1);
  config.set_monitor_ns(5 * kSecond);
  return config;
}

}  // namespace

void change_strings(RepeatedPtrField<std::string>* items, const ListChange& change) {
  remove_if(items, [&](const std::string& item) {
    return std::find(change.remove.begin(), change.remove.end(), item) != change.remove.end();
  });
  for (const std::string& item : change.add)
    if (std::find(items->begin(), items->end(), item) == items->end()) *items->Add() = item;
}

void change_pairs(RepeatedPtrField<v1::KeyValue>* pairs, const ListChange& change) {
  for (const std::string& key : change.remove) remove_pair(pairs, key);
  for (const std::string& text : change.add) set_pair(pairs, parse_key_value(text));
}

void remove_pair(RepeatedPtrField<v1::KeyValue>* pairs, const std::string& key) {
  remove_if(pairs, [&](const v1::KeyValue& pair) { return pair.key() == key; });
}

void set_pair(RepeatedPtrField<v1::KeyValue>* pairs, const v1::KeyValue& pair) {
  remove_pair(pairs, pair.key());
  *pairs->Add() = pair;
  std::sort(pairs->begin(), pairs->end(),
            [](const auto& a, const auto& b) { return a.key() < b.key(); });
}

Status SpecFlags::apply_mode(v1::ServiceSpec* spec, For command) const {
  if (command == For::kCreate) {
    const std::string wanted = mode.value_or("replicated");
    if (wanted == "replicated")
      spec->mutable_replicated()->set_replicas(1);
    else if (wanted == "global")
      spec->mutable_global();
    else if (wanted == "replicated-job")
      spec->mutable_replicated_job()->set_total_completions(1);
    else if (wanted == "global-job")
      spec->mutable_global_job();
    else
      return usage_error(
          fmt::format("Unknown mode: {}, only replicated and global are supported", wanted));
  }
  const bool replicated = spec->has_replicated();
  const bool job = spec->has_replicated_job();
  if (replicas) {
    MUSTER_ASSIGN(const uint64_t n, parsed("replicas", *replicas, parse_unsigned));
    if (replicated)
      spec->mutable_replicated()->set_replicas(n);
    else if (job)
      spec->mutable_replicated_job()->set_total_completions(n);
    else
      return usage_error("replicas can only be used with replicated or replicated-job mode");
  }
  if (max_per_node_ && !replicated && !job)
    return usage_error(
        "replicas-max-per-node can only be used with replicated or replicated-job mode");
  if (max_concurrent) {
    if (!job) return usage_error("max-concurrent can only be used with replicated-job mode");
    MUSTER_ASSIGN(const uint64_t n, parsed("max-concurrent", *max_concurrent, parse_unsigned));
    spec->mutable_replicated_job()->set_max_concurrent(n);
  } else if (job && command == For::kCreate) {
    auto* spec_job = spec->mutable_replicated_job();
    spec_job->set_max_concurrent(spec_job->total_completions());
  }
  if ((update_.any() || rollback_.any()) && (job || spec->has_global_job()))
    return usage_error("update and rollback configuration is not supported for jobs");
  return ok_status();
}

Status SpecFlags::apply_process(v1::ContainerSpec* container) const {
  if (image) container->set_image(*image);
  if (isolation_ && !isolation_->empty() && *isolation_ != "default")
    return usage_error(
        fmt::format("isolation \"{}\" is of Windows nodes: muster runs Linux containers, where "
                    "only \"default\" "
                    "is known",
                    *isolation_));
  if (credential_spec_ && !credential_spec_->empty())
    return usage_error("credential specs are of Windows nodes: muster runs Linux containers only");
  if (args) {
    MUSTER_ASSIGN(const auto words, parsed("args", *args, parse_shell_words));
    container->clear_args();
    for (const auto& word : words) container->add_args(word);
  }
  if (entrypoint_) {
    MUSTER_ASSIGN(const auto words, parsed("entrypoint", *entrypoint_, parse_shell_words));
    container->clear_command();
    for (const auto& word : words) container->add_command(word);
  }
  if (workdir_) container->set_dir(*workdir_);
  if (user_) container->set_user(*user_);
  if (hostname_) container->set_hostname(*hostname_);
  if (tty_) container->set_tty(*tty_);
  if (read_only_) container->set_read_only(*read_only_);
  if (init_) container->set_init(*init_);
  if (stop_signal_) container->set_stop_signal(*stop_signal_);
  if (stop_grace_) {
    MUSTER_ASSIGN(const int64_t ns, parsed("stop-grace-period", *stop_grace_, parse_duration_ns));
    container->set_stop_grace_period_ns(ns);
  }
  if (oom_score_adj_) {
    MUSTER_ASSIGN(const int64_t score, parsed("oom-score-adj", *oom_score_adj_, parse_signed));
    container->set_oom_score_adj(score);
  }
  return ok_status();
}

Status SpecFlags::apply_references(v1::ContainerSpec* container) const {
  for (const std::string& gone : secrets_.remove)
    remove_if(container->mutable_secrets(),
              [&](const v1::SecretReference& secret) { return secret.secret_name() == gone; });
  for (const std::string& text : secrets_.add) {
    MUSTER_ASSIGN(const v1::SecretReference secret, parsed("secret", text, parse_secret));
    for (const auto& other : container->secrets())
      if (other.file().name() == secret.file().name())
        return usage_error(
            fmt::format("duplicate secret target for {} not allowed", secret.secret_name()));
    *container->add_secrets() = secret;
  }
  for (const std::string& gone : configs_.remove)
    remove_if(container->mutable_configs(),
              [&](const v1::ConfigReference& config) { return config.config_name() == gone; });
  for (const std::string& text : configs_.add) {
    MUSTER_ASSIGN(const v1::ConfigReference config, parsed("config", text, parse_config));
    for (const auto& other : container->configs())
      if (other.file().name() == config.file().name())
        return usage_error(
            fmt::format("duplicate config target for {} not allowed", config.config_name()));
    *container->add_configs() = config;
  }
  return ok_status();
}

Status SpecFlags::apply_health(v1::ContainerSpec* container) const {
  const bool any = health_cmd_ || health_interval_ || health_timeout_ || health_retries_ ||
                   health_start_period_ || health_start_interval_;
  if (no_healthcheck_) {
    if (any) return usage_error("--no-healthcheck conflicts with --health-* options");
    container->clear_healthcheck();
    container->mutable_healthcheck()->add_test("NONE");
    return ok_status();
  }
  if (!any) return ok_status();
  auto* health = container->mutable_healthcheck();
  if (health->test_size() == 1 && health->test(0) == "NONE") health->clear_test();
  if (health_cmd_) {
    health->clear_test();
    if (!health_cmd_->empty()) {
      health->add_test("CMD-SHELL");
      health->add_test(*health_cmd_);
    }
  }
  const struct {
    const std::optional<std::string>& text;
    const char* flag;
    void (v1::HealthCheck::*set)(int64_t);
  } durations[] = {
      {health_interval_, "health-interval", &v1::HealthCheck::set_interval_ns},
      {health_timeout_, "health-timeout", &v1::HealthCheck::set_timeout_ns},
      {health_start_period_, "health-start-period", &v1::HealthCheck::set_start_period_ns},
      {health_start_interval_, "health-start-interval", &v1::HealthCheck::set_start_interval_ns},
  };
  for (const auto& duration : durations) {
    if (!duration.text) continue;
    MUSTER_ASSIGN(const int64_t ns, parsed(duration.flag, *duration.text, parse_duration_ns));
    (health->*duration.set)(ns);
  }
  if (health_retries_) {
    MUSTER_ASSIGN(const uint64_t n, parsed("health-retries", *health_retries_, parse_unsigned));
    health->set_retries(static_cast<int32_t>(std::min<uint64_t>(n, INT32_MAX)));
  }
  return ok_status();
}

Status SpecFlags::apply_resources(v1::TaskSpec* task) const {
  if (limit_cpu_) {
    MUSTER_ASSIGN(const int64_t cpus, parsed("limit-cpu", *limit_cpu_, parse_nano_cpus));
    task->mutable_resources()->mutable_limits()->set_nano_cpus(cpus);
  }
  if (limit_memory_) {
    MUSTER_ASSIGN(const int64_t bytes, parsed("limit-memory", *limit_memory_, parse_bytes));
    task->mutable_resources()->mutable_limits()->set_memory_bytes(bytes);
  }
  if (limit_pids_) {
    MUSTER_ASSIGN(const int64_t pids, parsed("limit-pids", *limit_pids_, parse_signed));
    task->mutable_resources()->mutable_limits()->set_pids(pids);
  }
  if (reserve_cpu_) {
    MUSTER_ASSIGN(const int64_t cpus, parsed("reserve-cpu", *reserve_cpu_, parse_nano_cpus));
    task->mutable_resources()->mutable_reservations()->set_nano_cpus(cpus);
  }
  if (reserve_memory_) {
    MUSTER_ASSIGN(const int64_t bytes, parsed("reserve-memory", *reserve_memory_, parse_bytes));
    task->mutable_resources()->mutable_reservations()->set_memory_bytes(bytes);
  }
  if (swap_) {
    const auto parse = [](const std::string& text) {
      return text == "-1" ? Result<int64_t>(-1) : parse_bytes(text);
    };
    MUSTER_ASSIGN(const int64_t bytes, parsed("memory-swap", *swap_, parse));
    if (task->resources().limits().memory_bytes() == 0)
      return usage_error("--memory-swap needs --limit-memory");
    task->mutable_resources()->set_memory_swap_bytes(bytes);
  }
  if (swappiness_) {
    MUSTER_ASSIGN(const int64_t n, parsed("memory-swappiness", *swappiness_, parse_signed));
    if (n < -1 || n > 100) return usage_error("--memory-swappiness is between 0 and 100, or -1");
    task->mutable_resources()->set_memory_swappiness(n);
  }
  if (!generic_.empty()) {
    auto* list = task->mutable_resources()->mutable_reservations()->mutable_generic();
    for (const std::string& gone : generic_.remove)
      remove_if(list, [&](const v1::GenericResource& item) {
        return item.kind() == gone.substr(0, gone.find('='));
      });
    for (const std::string& text : generic_.add) {
      MUSTER_ASSIGN(const auto item, parsed("generic-resource", text, parse_generic_resource));
      remove_if(list, [&](const v1::GenericResource& old) { return old.kind() == item.kind(); });
      *list->Add() = item;
    }
  }
  return ok_status();
}

Status SpecFlags::apply_restart(v1::TaskSpec* task) const {
  if (!restart_condition_ && !restart_delay_ && !restart_attempts_ && !restart_window_)
    return ok_status();
  auto* restart = task->mutable_restart();
  if (restart_condition_) {
    if (*restart_condition_ == "none")
      restart->set_condition(v1::RestartPolicy::NONE);
    else if (*restart_condition_ == "on-failure")
      restart->set_condition(v1::RestartPolicy::ON_FAILURE);
    else if (*restart_condition_ == "any")
      restart->set_condition(v1::RestartPolicy::ANY);
    else
      return usage_error(fmt::format("invalid restart condition \"{}\": none, on-failure or any",
                                     *restart_condition_));
  }
  if (restart_delay_) {
    MUSTER_ASSIGN(const int64_t ns, parsed("restart-delay", *restart_delay_, parse_duration_ns));
    restart->set_delay_ns(ns);
  }
  if (restart_attempts_) {
    MUSTER_ASSIGN(const uint64_t n,
                  parsed("restart-max-attempts", *restart_attempts_, parse_unsigned));
    restart->set_max_attempts(n);
  }
  if (restart_window_) {
    MUSTER_ASSIGN(const int64_t ns, parsed("restart-window", *restart_window_, parse_duration_ns));
    restart->set_window_ns(ns);
  }
  return ok_status();
}

Status SpecFlags::apply_placement(v1::TaskSpec* task) const {
  if (!constraints_.empty()) {
    auto* list = task->mutable_placement()->mutable_constraints();
    change_strings(list, constraints_);
    std::sort(list->begin(), list->end());
  }
  if (!preferences_.empty()) {
    auto* list = task->mutable_placement()->mutable_preferences();
    for (const std::string& text : preferences_.remove) {
      MUSTER_ASSIGN(const auto gone, parsed("placement-pref-rm", text, parse_placement_pref));
      remove_if(list, [&](const v1::PlacementPreference& item) {
        return item.spread_descriptor() == gone.spread_descriptor();
      });
    }
    for (const std::string& text : preferences_.add) {
      MUSTER_ASSIGN(const auto item, parsed("placement-pref", text, parse_placement_pref));
      *list->Add() = item;
    }
  }
  if (max_per_node_) {
    MUSTER_ASSIGN(const uint64_t n,
                  parsed("replicas-max-per-node", *max_per_node_, parse_unsigned));
    task->mutable_placement()->set_max_replicas(n);
  }
  return ok_status();
}

Status SpecFlags::apply_logging(v1::TaskSpec* task) const {
  if (log_driver_) {
    task->mutable_log_driver()->set_name(*log_driver_);
    task->mutable_log_driver()->clear_options();
  }
  if (!log_options_.add.empty())
    change_pairs(task->mutable_log_driver()->mutable_options(), log_options_);
  return ok_status();
}

Status SpecFlags::apply_endpoint(v1::ServiceSpec* spec) const {
  auto* endpoint = spec->mutable_endpoint();
  if (endpoint_mode_) {
    if (*endpoint_mode_ != "vip" && *endpoint_mode_ != "dnsrr")
      return usage_error(
          fmt::format("invalid endpoint mode \"{}\": vip or dnsrr", *endpoint_mode_));
    endpoint->set_mode(*endpoint_mode_ == "dnsrr" ? v1::EndpointSpec::DNSRR
                                                  : v1::EndpointSpec::VIP);
  }
  if (balancing_) {
    MUSTER_ASSIGN(const auto balancing,
                  parsed("endpoint-balancing", *balancing_, overlay::parse_balancing));
    endpoint->set_balancing(balancing);
  }
  if (affinity_) {
    MUSTER_ASSIGN(const int64_t ns, parsed("endpoint-affinity", *affinity_, parse_duration_ns));
    endpoint->set_affinity_ns(ns);
  }
  if (weight_label_) endpoint->set_weight_label(*weight_label_);
  if (drain_timeout_) {
    MUSTER_ASSIGN(const int64_t ns, parsed("drain-timeout", *drain_timeout_, parse_duration_ns));
    endpoint->set_drain_timeout_ns(ns);
  }
  auto* ports = endpoint->mutable_ports();
  for (const std::string& text : publish_.remove) {
    // A bare number is a target port; the long form names protocol and mode too.
    MUSTER_ASSIGN(const auto gone, parsed("publish-rm", text, parse_publish));
    for (const auto& port : gone)
      remove_if(ports, [&](const v1::PortConfig& old) {
        return old.target_port() == port.target_port() && old.protocol() == port.protocol() &&
               old.mode() == port.mode() && (port.bind().empty() || old.bind() == port.bind());
      });
  }
  for (const std::string& text : publish_.add) {
    MUSTER_ASSIGN(const auto added, parsed("publish", text, parse_publish));
    for (const auto& port : added) {
      for (const auto& old : *ports) {
        if (port.published_port() != 0 && old.published_port() == port.published_port() &&
            old.protocol() == port.protocol() && old.target_port() != port.target_port() &&
            overlay::binds_overlap(old.bind(), port.bind()))
          return usage_error(fmt::format("conflicting port mapping between {}:{}/{} and {}:{}/{}",
                                         port.published_port(), port.target_port(),
                                         protocol_name(port.protocol()), old.published_port(),
                                         old.target_port(), protocol_name(old.protocol())));
      }
      remove_if(ports, [&](const v1::PortConfig& old) {
        return old.target_port() == port.target_port() && old.protocol() == port.protocol() &&
               old.published_port() == port.published_port() &&
               overlay::binds_overlap(old.bind(), port.bind());
      });
      *ports->Add() = port;
    }
  }
  for (const auto& port : *ports)
    if (endpoint->mode() == v1::EndpointSpec::DNSRR && port.mode() == v1::PortConfig::INGRESS)
      return usage_error("port published with ingress mode can't be used with dnsrr mode");
  return ok_status();
}

Status SpecFlags::apply(
    v1::ServiceSpec* spec, For command, const std::map<std::string, std::string>& environment,
    const std::string& current_dir,
    const std::function<Result<std::string>(const std::string&)>& read_file) const {
  if (name) spec->mutable_annotations()->set_name(*name);
  change_pairs(spec->mutable_annotations()->mutable_labels(), labels_);
  MUSTER_TRY(apply_mode(spec, command));
  auto* task = spec->mutable_task();
  auto* container = task->mutable_container();
  MUSTER_TRY(apply_process(container));
  MUSTER_TRY(apply_environment(container, command, environment, read_file));
  MUSTER_TRY(apply_container_lists(container, command, current_dir));
  MUSTER_TRY(apply_references(container));
  MUSTER_TRY(apply_health(container));
  MUSTER_TRY(apply_resources(task));
  MUSTER_TRY(apply_restart(task));
  MUSTER_TRY(apply_placement(task));
  MUSTER_TRY(apply_logging(task));
  MUSTER_TRY(apply_endpoint(spec));
  for (const std::string& text : networks_.add) {
    if (command == For::kUpdate) break;
    MUSTER_ASSIGN(const auto network, parsed("network", text, parse_network));
    *task->add_networks() = network;
  }
  if (update_.any()) {
    if (!spec->has_update()) *spec->mutable_update() = default_update();
    MUSTER_TRY(apply_update(update_, "update", true, spec->mutable_update()));
  }
  if (rollback_.any()) {
    if (!spec->has_rollback()) *spec->mutable_rollback() = default_update();
    MUSTER_TRY(apply_update(rollback_, "rollback", false, spec->mutable_rollback()));
  }
  if (force) task->set_force_update(task->force_update() + 1);
  return ok_status();
}

}  // namespace muster::deploy::cli
