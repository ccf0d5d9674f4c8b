#include "manager/control/validation.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "base/log_driver.h"
#include "base/template.h"
#include "base/time.h"
#include "manager/control/payload_validation.h"
#include "manager/store/job_status.h"
#include "overlay/ipam/address_pool.h"
#include "overlay/ipam/ipam.h"
#include "overlay/ipam/mtu.h"
#include "overlay/ipam/port_options.h"
#include "scheduler/constraint.h"

namespace muster::manager::control {
namespace {

constexpr int64_t kMemoryMin = 4 << 20;
constexpr int64_t kNanoCpusMin = 1'000'000;
constexpr int64_t kHealthMin = 1'000'000;
constexpr int64_t kHeartbeatMin = 100'000'000;  // less would keep managers busy with nothing else
// Agents do not wait longer than 15 s for the managers' word.
constexpr int64_t kDrainAckMin = Duration(100ms).count();
constexpr int64_t kDrainAckMax = Duration(10s).count();
constexpr int64_t kKeyRotationMin = Duration(30s).count();  // less would be all that managers do
constexpr int64_t kKeyRotationMax = Duration(720h).count();
constexpr int64_t kDrainTimeoutMax = Duration(24h).count();
constexpr int64_t kAffinityMin = Duration(1s).count();
constexpr int64_t kAffinityMax = Duration(24h).count();
// A revision of the largest spec still fits one message of the tasks' feed (256 KiB), and a service
// with its previous spec an entry of the log.
constexpr size_t kServiceBytesMax = 240'000;
// Networks travel with every task, nodes and the cluster with every session.
constexpr size_t kOtherBytesMax = 32'000;

constexpr int64_t kOomScoreMax = 1000;
constexpr std::string_view kUlimits[] = {
    "as",   "core",   "cpu",   "data", "fsize",  "locks",  "memlock",    "msgqueue",
    "nice", "nofile", "nproc", "rss",  "rtprio", "rttime", "sigpending", "stack"};

bool alnum(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0;
}

Status bad(std::string text) {
  return Status(StatusCode::kInvalidArgument, std::move(text));
}

Status validate_size(const google::protobuf::Message& spec, std::string_view what, size_t max) {
  const size_t bytes = spec.ByteSizeLong();
  if (bytes <= max) return ok_status();
  return invalid_argument("the spec of the {} has {} bytes; the limit is {}", what, bytes, max);
}

Status validate_amounts(const v1::Resources& r) {
  if (r.nano_cpus() != 0 && r.nano_cpus() < kNanoCpusMin) {
    return invalid_argument("invalid cpu value {}: Must be at least {}", r.nano_cpus() / 1e9,
                            kNanoCpusMin / 1e9);
  }
  if (r.memory_bytes() != 0 && r.memory_bytes() < kMemoryMin) {
    return invalid_argument("invalid memory value {}: Must be at least 4MiB", r.memory_bytes());
  }
  if (r.pids() < 0)
    return invalid_argument("invalid pids limit {}: Must not be negative", r.pids());
  std::set<std::string> kinds;
  for (const auto& generic : r.generic()) {
    if (generic.kind().empty()) return bad("a generic resource needs a kind");
    if (generic.names_size() > 0) {
      return invalid_argument("generic resource {}: only an amount can be reserved, not names",
                              generic.kind());
    }
    if (generic.count() <= 0) {
      return invalid_argument("invalid generic resource {}={}: Must be at least 1", generic.kind(),
                              generic.count());
    }
    if (!kinds.insert(generic.kind()).second) {
      return invalid_argument("generic resource {} is given twice", generic.kind());
    }
  }
  return ok_status();
}

Status validate_resources(const v1::ResourceRequirements& r) {
  MUSTER_TRY(validate_amounts(r.limits()));
  MUSTER_TRY(validate_amounts(r.reservations()));
  if (r.has_memory_swap_bytes() && r.memory_swap_bytes() != 0 && r.limits().memory_bytes() == 0) {
    return bad("a memory swap limit needs a memory limit");
  }
  if (r.has_memory_swap_bytes() && r.memory_swap_bytes() < -1) {
    return invalid_argument("invalid memory swap {}: Must be -1 (unlimited) or more",
                            r.memory_swap_bytes());
  }
  if (r.has_memory_swappiness() && (r.memory_swappiness() < -1 || r.memory_swappiness() > 100)) {
    return invalid_argument("invalid memory swappiness {}: Must be -1, or from 0 to 100",
                            r.memory_swappiness());
  }
  return ok_status();
}

Status validate_restart(const v1::RestartPolicy& policy) {
  if (policy.delay_ns() < 0) return bad("TaskSpec: restart-delay cannot be negative");
  if (policy.window_ns() < 0) return bad("TaskSpec: restart-window cannot be negative");
  return ok_status();
}

Status validate_update(const v1::UpdateConfig& config, std::string_view what) {
  if (config.delay_ns() < 0) return invalid_argument("TaskSpec: {}-delay cannot be negative", what);
  if (config.monitor_ns() < 0) {
    return invalid_argument("TaskSpec: {}-monitor cannot be negative", what);
  }
  if (config.max_failure_ratio_ppm() > 1'000'000) {
    return invalid_argument("TaskSpec: {}-maxfailureratio cannot be less than 0 or bigger than 1",
                            what);
  }
  if (config.progress_deadline_ns() < 0) {
    return invalid_argument("TaskSpec: {}-progress-deadline cannot be negative", what);
  }
  return ok_status();
}

Status validate_placement(const v1::Placement& placement) {
  auto constraints = scheduler::parse_constraints(placement.constraints());
  if (!constraints) return std::move(constraints).error();
  return ok_status();
}

Status validate_log_driver(const v1::LogDriver& driver) {
  LogOptions options;
  for (const v1::KeyValue& option : driver.options()) {
    options.emplace_back(option.key(), option.value());
  }
  return check_log_driver(driver.name(), options);
}

Status validate_mount(const v1::Mount& mount, std::set<std::string>& targets) {
  if (mount.target().empty()) return bad("ContainerSpec: mount needs a target");
  const bool fixed = mount.target().find("{{") == std::string::npos;
  if (fixed && mount.target().front() != '/') {
    return invalid_argument("invalid mount target '{}': mount path must be absolute",
                            mount.target());
  }
  if (!targets.insert(mount.target()).second) {
    return invalid_argument("ContainerSpec: duplicate mount point: {}", mount.target());
  }
  const std::string& source = mount.source();
  switch (mount.type()) {
    case v1::Mount::BIND:
      if (source.empty()) return bad("invalid bind mount: the source must not be empty");
      if (source.front() != '/' && source.find("{{") == std::string::npos) {
        return invalid_argument("invalid bind mount source, must be an absolute path: {}", source);
      }
      break;
    case v1::Mount::TMPFS:
      if (!source.empty()) return bad("invalid tmpfs mount: the source must be empty");
      if (mount.tmpfs().size_bytes() < 0) return bad("invalid tmpfs mount: negative size");
      break;
    case v1::Mount::VOLUME:
      if (!source.empty() && source.find("{{") == std::string::npos) {
        const bool good = alnum(source.front()) && source.size() >= 2 &&
                          std::all_of(source.begin(), source.end(), [](char c) {
                            return alnum(c) || c == '_' || c == '.' || c == '-';
                          });
        if (!good) return invalid_argument("invalid volume mount source: \"{}\"", source);
      }
      break;
    case v1::Mount::IMAGE:
      if (source.find("{{") != std::string::npos) break;
      return validate_image_reference(source);
    default: return bad("unknown mount type");
  }
  return ok_status();
}

Status validate_health(const v1::HealthCheck& check) {
  const std::pair<const char*, int64_t> durations[] = {
      {"Interval", check.interval_ns()},
      {"Timeout", check.timeout_ns()},
      {"StartPeriod", check.start_period_ns()},
      {"StartInterval", check.start_interval_ns()}};
  for (const auto& [name, value] : durations) {
    if (value != 0 && value < kHealthMin) {
      return invalid_argument("ContainerSpec: {} in HealthConfig cannot be less than 1ms", name);
    }
  }
  if (check.retries() < 0) return bad("ContainerSpec: Retries in HealthConfig cannot be negative");
  return ok_status();
}

// Tries every field that may hold a template with stand-ins for the task's values.
Status validate_templates(const v1::ContainerSpec& container) {
  const boost::json::value data = TaskTemplateContext::dummy().to_json();
  const auto check = [&](std::string_view text, std::string_view what) -> Status {
    auto expanded = expand_template(text, data);
    if (expanded) return ok_status();
    return expanded.error().with_context(fmt::format("expanding {} failed", what));
  };
  MUSTER_TRY(check(container.hostname(), "hostname"));
  for (const std::string& env : container.env()) MUSTER_TRY(check(env, "env"));
  for (const v1::Mount& mount : container.mounts()) {
    MUSTER_TRY(check(mount.source(), "mount source"));
    MUSTER_TRY(check(mount.target(), "mount target"));
    for (const auto& label : mount.volume().labels()) {
      MUSTER_TRY(check(label.value(), "volume label"));
    }
    for (const auto& option : mount.volume().driver_options()) {
      MUSTER_TRY(check(option.value(), "volume option"));
    }
  }
  return ok_status();
}

// Whether a kernel parameter belongs to a container's namespaces rather than to the host.
bool has_namespace(std::string_view name) {
  static const std::set<std::string_view> kIpc = {
      "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem",
      "kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced"};
  return kIpc.contains(name) || name == "kernel.domainname" || name.starts_with("net.") ||
         name.starts_with("fs.mqueue.");
}

Status validate_container(const v1::ContainerSpec& container) {
  if (container.image().empty()) return bad("ContainerSpec: image reference must be provided");
  MUSTER_TRY(validate_image_reference(container.image()));
  MUSTER_TRY(validate_labels(container.labels()));
  std::set<std::string> targets;
  for (const v1::Mount& mount : container.mounts()) MUSTER_TRY(validate_mount(mount, targets));
  MUSTER_TRY(validate_health(container.healthcheck()));
  MUSTER_TRY(validate_payload_targets(container));
  if (container.stop_grace_period_ns() < 0) {
    return bad("ContainerSpec: stop grace period cannot be negative");
  }
  for (const std::string& env : container.env()) {
    if (env.empty() || env.front() == '=') {
      return invalid_argument("invalid environment variable: \"{}\"", env);
    }
  }
  for (const v1::KeyValue& sysctl : container.sysctls()) {
    if (!has_namespace(sysctl.key())) {
      return invalid_argument("sysctl '{}' is not allowed", sysctl.key());
    }
  }
  if (std::abs(container.oom_score_adj()) > kOomScoreMax) {
    return invalid_argument("Invalid value {}, range for oom score adj is [-1000, 1000]",
                            container.oom_score_adj());
  }
  for (const v1::Ulimit& limit : container.ulimits()) {
    if (std::find(std::begin(kUlimits), std::end(kUlimits), limit.name()) == std::end(kUlimits)) {
      return invalid_argument("invalid ulimit type: {}", limit.name());
    }
    if (limit.hard() != -1 && (limit.soft() == -1 || limit.soft() > limit.hard())) {
      return invalid_argument("ulimit soft limit must be less than or equal to hard limit: {}",
                              limit.name());
    }
  }
  return validate_templates(container);
}

std::string port_text(const v1::PortConfig& port) {
  return port.published_port() == 0
             ? std::to_string(port.target_port())
             : fmt::format("{}:{}", port.published_port(), port.target_port());
}

Status validate_balancing(const v1::EndpointSpec& endpoint) {
  constexpr std::string_view kPlace = "node.labels.";
  const std::string& label = endpoint.weight_label();
  if (endpoint.mode() == v1::EndpointSpec::DNSRR &&
      (endpoint.balancing() != v1::EndpointSpec::ROUND_ROBIN || endpoint.affinity_ns() != 0 ||
       !label.empty())) {
    return bad(
        "EndpointSpec: balancing, affinity and weights can't be used with dnsrr mode, which has no "
        "virtual address");
  }
  if (!v1::EndpointSpec::Balancing_IsValid(endpoint.balancing())) {
    return invalid_argument("EndpointSpec: unknown balancing {}", int{endpoint.balancing()});
  }
  if (endpoint.affinity_ns() < 0) return bad("EndpointSpec: the affinity cannot be negative");
  if (endpoint.affinity_ns() != 0 && endpoint.affinity_ns() < kAffinityMin) {
    return bad("EndpointSpec: the affinity is 1s at least, or 0 for none");
  }
  if (endpoint.affinity_ns() > kAffinityMax) {
    return bad("EndpointSpec: the affinity is 24h at most");
  }
  if (label.starts_with(kPlace)) {
    return invalid_argument("EndpointSpec: the weight label is a node label's key alone: {}",
                            label.substr(kPlace.size()));
  }
  if (std::any_of(label.begin(), label.end(),
                  [](unsigned char c) { return c <= ' ' || c == '=' || c == 0x7f; })) {
    return invalid_argument("EndpointSpec: \"{}\" cannot be a node label's key", label);
  }
  return ok_status();
}

Status validate_endpoint(const v1::EndpointSpec& endpoint) {
  MUSTER_TRY(validate_balancing(endpoint));
  if (endpoint.drain_timeout_ns() < 0) {
    return bad("EndpointSpec: the drain timeout cannot be negative");
  }
  if (endpoint.drain_timeout_ns() > kDrainTimeoutMax) {
    return bad("EndpointSpec: the drain timeout is 24h at most");
  }
  std::map<std::tuple<uint32_t, int, int>, std::vector<std::string>> published;  // binds
  for (const v1::PortConfig& port : endpoint.ports()) {
    if (port.target_port() == 0 || port.target_port() > 65535) {
      return invalid_argument("EndpointSpec: target port {} is not from 1 to 65535",
                              port.target_port());
    }
    if (port.published_port() > 65535) {
      return invalid_argument("EndpointSpec: published port {} is not from 1 to 65535",
                              port.published_port());
    }
    if (endpoint.mode() == v1::EndpointSpec::DNSRR && port.mode() == v1::PortConfig::INGRESS) {
      return bad("EndpointSpec: port published with ingress mode can't be used with dnsrr mode");
    }
    if (Status options = overlay::check_port_options(port); !options.ok()) {
      return options.with_context("EndpointSpec: port " + port_text(port));
    }
    // Of those whose number is chosen only the same target twice is.
    const bool chosen = port.published_port() == 0;
    auto& binds =
        published[{chosen ? uint32_t{1} << 16 | port.target_port() : port.published_port(),
                   int{port.protocol()}, int{port.mode()}}];
    if (std::any_of(binds.begin(), binds.end(), [&](const std::string& other) {
          return overlay::binds_overlap(other, port.bind());
        })) {
      return bad("EndpointSpec: duplicate published ports provided");
    }
    binds.push_back(port.bind());
  }
  return ok_status();
}

Status validate_job_amount(uint64_t amount, std::string_view what) {
  if (amount > uint64_t{INT64_MAX}) return invalid_argument("{} must not be negative", what);
  if (amount > uint64_t{INT32_MAX}) {
    return invalid_argument("{} must be between 0 and 2147483647", what);
  }
  return ok_status();
}

// What runs to its end is not updated while it runs: a change begins the next iteration.
Status validate_policies(const v1::ServiceSpec& spec) {
  if (store::is_job(spec)) {
    if (spec.has_update()) return bad("Jobs may not have an update config");
    if (spec.has_rollback()) return bad("Jobs may not have a rollback config");
    return ok_status();
  }
  MUSTER_TRY(validate_update(spec.update(), "update"));
  MUSTER_TRY(validate_update(spec.rollback(), "rollback"));
  if (spec.rollback().failure_action() == v1::UpdateConfig::ROLLBACK) {
    return bad("a rollback's failure action can only be pause or continue");
  }
  return ok_status();
}

Status validate_mode(const v1::ServiceSpec& spec) {
  switch (spec.mode_case()) {
    case v1::ServiceSpec::kReplicated:
      // Also a negative number cast to unsigned.
      if (spec.replicated().replicas() > uint64_t{INT32_MAX}) {
        return bad("Number of replicas must be between 0 and 2147483647");
      }
      return ok_status();
    case v1::ServiceSpec::kGlobal:
      if (spec.task().placement().max_replicas() > 0) {
        return bad("replicas-max-per-node can only be used with replicated or replicated-job mode");
      }
      return ok_status();
    case v1::ServiceSpec::kReplicatedJob:
      MUSTER_TRY(
          validate_job_amount(spec.replicated_job().max_concurrent(), "Maximum concurrent jobs"));
      return validate_job_amount(spec.replicated_job().total_completions(), "Total completed jobs");
    case v1::ServiceSpec::kGlobalJob:
      if (spec.task().placement().max_replicas() > 0) {
        return bad("replicas-max-per-node can only be used with replicated or replicated-job mode");
      }
      return ok_status();
    case v1::ServiceSpec::MODE_NOT_SET: break;
  }
  return bad("exactly one service mode must be given");
}

}  // namespace

Status validate_name(std::string_view name) {
  if (name.empty()) return bad("meta: name must be provided");
  if (name.size() > 63) return bad("name must be 63 characters or fewer");
  // Separators only between letters or digits.
  bool good = alnum(name.front()) && alnum(name.back());
  for (size_t i = 0; i < name.size() && good; ++i) {
    const char c = name[i];
    good = alnum(c) || c == '-' || c == '_' || c == '.';
  }
  if (!good) return bad("name must be valid as a DNS name component");
  return ok_status();
}

Status validate_image_reference(std::string_view reference) {
  const auto fail_with = [&] {
    return invalid_argument("ContainerSpec: \"{}\" is not a valid repository/tag", reference);
  };
  if (reference.empty() || reference.size() > 1024) return fail_with();
  static const std::regex kReference(
      "(?:(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*"
      "[a-zA-Z0-9])?)*|\\[[a-fA-F0-9:]+\\])(?::[0-9]+)?/)?"
      "[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*"
      "(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?"
      "(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?");
  if (!std::regex_match(reference.begin(), reference.end(), kReference)) return fail_with();
  return ok_status();
}

Status validate_labels(const google::protobuf::RepeatedPtrField<v1::KeyValue>& labels) {
  for (int i = 0; i < labels.size(); ++i) {
    if (labels[i].key().empty()) return bad("a label needs a key");
    if (i > 0 && labels[i - 1].key() == labels[i].key()) {
      return invalid_argument("label {} is given twice", labels[i].key());
    }
  }
  return ok_status();
}

Status validate_service_spec(const v1::ServiceSpec& spec) {
  MUSTER_TRY(validate_size(spec, "service", kServiceBytesMax));
  MUSTER_TRY(validate_name(spec.annotations().name()));
  MUSTER_TRY(validate_labels(spec.annotations().labels()));
  MUSTER_TRY(validate_mode(spec));
  MUSTER_TRY(validate_resources(spec.task().resources()));
  MUSTER_TRY(validate_restart(spec.task().restart()));
  MUSTER_TRY(validate_placement(spec.task().placement()));
  MUSTER_TRY(validate_log_driver(spec.task().log_driver()));
  if (!spec.task().has_container()) return bad("TaskSpec: missing runtime");
  MUSTER_TRY(validate_container(spec.task().container()));
  MUSTER_TRY(validate_policies(spec));
  return validate_endpoint(spec.endpoint());
}

namespace {

// Addresses that mean something else wherever they are seen.
Status validate_subnet(const overlay::Prefix& subnet) {
  struct Special {
    const char* range;
    const char* what;
  };
  static constexpr Special kSpecial[] = {
      {"0.0.0.0/8", "for this host itself"},
      {"127.0.0.0/8", "for loopback"},
      {"224.0.0.0/4", "for multicast"},
      {"240.0.0.0/4", "reserved"},
      {"::/127", "for loopback"},
      {"fe80::/10", "link-local"},
      {"ff00::/8", "for multicast"},
  };
  for (const Special& special : kSpecial) {
    if (!overlay::Prefix::parse(special.range)->overlaps(subnet)) continue;
    return invalid_argument("subnet {} cannot be a network's: {} is {}", subnet.str(),
                            special.range, special.what);
  }
  return ok_status();
}

// What tasks of such a network have is the node's, or nothing.
Status validate_no_addresses(const v1::NetworkSpec& spec) {
  const std::string& driver = spec.driver();
  if (overlay::Ipam::allocates(spec) || (spec.pools().empty() && !spec.ipv6())) return ok_status();
  return invalid_argument(
      "a network of driver {} has no addresses of its own ({}): {} has no effect there, leave it "
      "out",
      driver, driver == "host" ? "its tasks are in the node's network" : "its tasks are in none",
      spec.pools().empty() ? "--ipv6" : "--subnet");
}

Status validate_pools(const v1::NetworkSpec& spec) {
  std::vector<overlay::Prefix> subnets;
  for (const v1::IpamPool& pool : spec.pools()) {
    if (pool.subnet().empty()) {
      if (!pool.gateway().empty() || !pool.ip_range().empty() || !pool.aux_addresses().empty()) {
        return bad("ipam configuration: a gateway, range or auxiliary address needs a subnet");
      }
      continue;
    }
    const auto made = overlay::AddressPool::make(pool);
    if (!made) return made.error();
    MUSTER_TRY(validate_subnet(made->subnet()));
    if (made->subnet().base.v6 && !spec.ipv6()) {
      return invalid_argument(
          "subnet {} is of IPv6, which is not enabled for the network: ask for it with --ipv6 "
          "(enable_ipv6 in a Compose file)",
          made->subnet().str());
    }
    for (const overlay::Prefix& other : subnets) {
      if (other.overlaps(made->subnet())) {
        return invalid_argument("subnet {} overlaps {} of the same network", made->subnet().str(),
                                other.str());
      }
    }
    subnets.push_back(made->subnet());
  }
  return ok_status();
}

}  // namespace

Status validate_network_spec(const v1::NetworkSpec& spec) {
  MUSTER_TRY(validate_size(spec, "network", kOtherBytesMax));
  MUSTER_TRY(validate_name(spec.annotations().name()));
  MUSTER_TRY(validate_labels(spec.annotations().labels()));
  static const std::set<std::string> kDrivers = {"", "overlay", "bridge", "host", "none"};
  if (!kDrivers.contains(spec.driver())) {
    return invalid_argument("network driver \"{}\" is not known", spec.driver());
  }
  if (spec.ingress() && !spec.driver().empty() && spec.driver() != "overlay") {
    return bad("only overlay driver is currently supported for ingress network");
  }
  if (spec.ingress() && spec.attachable()) return bad("ingress network cannot be attachable");
  if (!spec.ipam_driver().empty() && spec.ipam_driver() != "default") {
    return invalid_argument("IPAM driver \"{}\" is not known", spec.ipam_driver());
  }
  if (overlay::is_encrypted(spec) && !spec.driver().empty() && spec.driver() != "overlay") {
    return bad("only overlay networks can be encrypted");
  }
  MUSTER_TRY(validate_no_addresses(spec));
  // What no allocation can ever satisfy is better said at once.
  if (const auto mtu = overlay::wanted_mtu(spec); !mtu) return mtu.error();
  if (const auto vni = overlay::Ipam::wanted_vni(spec); !vni) return vni.error();
  return validate_pools(spec);
}

Status validate_node_spec(const v1::NodeSpec& spec) {
  MUSTER_TRY(validate_size(spec, "node", kOtherBytesMax));
  return validate_labels(spec.annotations().labels());
}

namespace {

// 0 is the default everywhere.
Status validate_raft_config(const v1::RaftConfig& raft) {
  constexpr uint64_t kEntriesMax = 100'000'000;
  if (raft.snapshot_interval() > kEntriesMax || raft.entries_for_slow_followers() > kEntriesMax) {
    return bad("at most 100,000,000 entries can be kept in the log");
  }
  const Duration beat =
      raft.heartbeat_period_ns() == 0 ? Duration(100ms) : Duration(raft.heartbeat_period_ns());
  const Duration election =
      raft.election_timeout_ns() == 0 ? Duration(1s) : Duration(raft.election_timeout_ns());
  if (beat < 10ms || beat > 10s)
    return bad("the heartbeat of managers (--raft-heartbeat) is 10ms to 10s");
  if (election > 60s)
    return bad("the election time-out of managers (--raft-election-timeout) is 60s at most");
  if (election < 5 * beat) {
    return bad(
        "the election time-out of managers (--raft-election-timeout) is at least five of their "
        "heartbeats (--raft-heartbeat)");
  }
  return ok_status();
}

}  // namespace

Status validate_cluster_spec(const v1::ClusterSpec& spec) {
  MUSTER_TRY(validate_size(spec, "cluster", kOtherBytesMax));
  const std::string& name = spec.annotations().name();
  if (!name.empty() && name != "default") return bad("the cluster cannot be renamed");
  if (!spec.external_cas().empty()) {
    return bad(
        "external CAs are not supported: give the root certificate and its key with --ca-cert and "
        "--ca-key instead");
  }
  if (spec.heartbeat_period_ns() < 0) return bad("heartbeat time period cannot be negative");
  if (spec.heartbeat_period_ns() != 0 && spec.heartbeat_period_ns() < kHeartbeatMin) {
    return bad("minimum heartbeat time period is: 100ms");
  }
  if (spec.node_cert_expiry_ns() != 0 && spec.node_cert_expiry_ns() < Duration(1h).count()) {
    return bad("minimum certificate expiry time is: 1h0m0s");
  }
  if (spec.vanished_agent_grace_ns() < 0) return bad("the vanished agent grace cannot be negative");
  if (spec.drain_ack_timeout_ns() != 0 &&
      (spec.drain_ack_timeout_ns() < kDrainAckMin || spec.drain_ack_timeout_ns() > kDrainAckMax)) {
    return bad("nodes that route to a task that stops are waited for 100ms to 10s");
  }
  const v1::EncryptionConfig& encryption = spec.encryption();
  if (encryption.key_rotation_ns() != 0 && (encryption.key_rotation_ns() < kKeyRotationMin ||
                                            encryption.key_rotation_ns() > kKeyRotationMax)) {
    return bad("keys of encrypted networks are changed every 30s to 720h");
  }
  if (encryption.udp_port() > 65535) return bad("a port of UDP is 65535 at most");
  if (spec.event_retention_ns() < 0) return bad("the event retention cannot be negative");
  MUSTER_TRY(validate_raft_config(spec.raft()));
  MUSTER_TRY(validate_log_driver(spec.default_log_driver()).with_context("default log driver"));
  return ok_status();
}

void normalise(v1::ServiceSpec& spec) {
  const auto sort = [](google::protobuf::RepeatedPtrField<v1::KeyValue>* pairs) {
    std::stable_sort(pairs->begin(), pairs->end(),
                     [](const auto& a, const auto& b) { return a.key() < b.key(); });
  };
  sort(spec.mutable_annotations()->mutable_labels());
  v1::ContainerSpec* container =
      spec.mutable_task()->has_container() ? spec.mutable_task()->mutable_container() : nullptr;
  if (container != nullptr) {
    sort(container->mutable_labels());
    sort(container->mutable_sysctls());
  }
  if (spec.mode_case() == v1::ServiceSpec::MODE_NOT_SET) spec.mutable_replicated()->set_replicas(1);
  if (spec.has_replicated_job()) {
    v1::ReplicatedJob& job = *spec.mutable_replicated_job();
    if (!job.has_max_concurrent()) job.set_max_concurrent(1);
    if (!job.has_total_completions()) job.set_total_completions(job.max_concurrent());
  }
  // A part that says nothing is none, or specs of one meaning would differ.
  v1::TaskSpec& task = *spec.mutable_task();
  if (task.placement().ByteSizeLong() == 0) task.clear_placement();
  if (task.resources().limits().ByteSizeLong() == 0) task.mutable_resources()->clear_limits();
  if (task.resources().reservations().ByteSizeLong() == 0) {
    task.mutable_resources()->clear_reservations();
  }
  if (task.resources().ByteSizeLong() == 0) task.clear_resources();
  if (task.log_driver().ByteSizeLong() == 0) task.clear_log_driver();
  if (spec.endpoint().ByteSizeLong() == 0) spec.clear_endpoint();
}

}  // namespace muster::manager::control
