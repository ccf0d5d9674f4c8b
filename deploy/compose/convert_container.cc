#include <algorithm>
#include <set>

#include "deploy/compose/convert_parts.h"
#include "deploy/compose/values.h"

namespace muster::deploy::compose {
namespace {

void add_all(const std::vector<std::string>& texts,
             google::protobuf::RepeatedPtrField<std::string>* out) {
  for (const std::string& text : texts) *out->Add() = text;
}

// "net_admin" to "CAP_NET_ADMIN"; "all" to "ALL". Sorted, without repeats.
std::set<std::string> capabilities(const std::vector<std::string>& names) {
  std::set<std::string> out;
  for (std::string name : names) {
    std::transform(name.begin(), name.end(), name.begin(),
                   [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; });
    if (name != "ALL" && !name.starts_with("CAP_")) name = "CAP_" + name;
    out.insert(std::move(name));
  }
  return out;
}

void convert_capabilities(const Fields& fields, muster::v1::ContainerSpec* out) {
  const std::set<std::string> add = capabilities(fields.texts("cap_add"));
  const std::set<std::string> drop = capabilities(fields.texts("cap_drop"));
  for (const std::string& name : add) out->add_capability_add(name);
  // What is both added and dropped is added; everything added leaves only a drop of everything.
  for (const std::string& name : drop) {
    if (add.count(name) == 0 && (add.count("ALL") == 0 || name == "ALL")) {
      out->add_capability_drop(name);
    }
  }
}

Status convert_environment(const Fields& fields, muster::v1::ContainerSpec* out) {
  const Node* environment = fields.find("environment");
  if (environment == nullptr) return {};
  std::set<std::string> lines;
  for (const Member& member : environment->members) {
    if (member.key.empty()) {
      return error_at(member.key_at, fields.path() + ".environment: a variable has no name");
    }
    lines.insert(member.value.is_null() ? member.key
                                        : member.key + "=" + member.value.scalar_text());
  }
  for (const std::string& line : lines) out->add_env(line);
  return {};
}

void convert_hosts(const Fields& fields, muster::v1::ContainerSpec* out) {
  for (const std::string& entry : fields.texts("extra_hosts")) {
    const size_t colon = entry.find(':');
    if (colon == std::string::npos) continue;
    std::string address = entry.substr(colon + 1);
    if (address.size() > 2 && address.front() == '[' && address.back() == ']') {
      address = address.substr(1, address.size() - 2);
    }
    if (address == "host-gateway") continue;
    out->add_hosts(address + " " + entry.substr(0, colon));
  }
}

Status convert_healthcheck(const Fields& fields, muster::v1::ContainerSpec* out) {
  const Fields check = fields.child("healthcheck");
  if (!check.present()) return {};
  muster::v1::HealthCheck* to = out->mutable_healthcheck();
  const std::vector<std::string> test = check.texts("test");
  if (check.flag("disable")) {
    if (!test.empty()) {
      return check.error("disable", "test and disable can't be set at the same time");
    }
    to->add_test("NONE");
    return {};
  }
  if (!test.empty() && test[0] != "NONE" && test[0] != "CMD" && test[0] != "CMD-SHELL") {
    return check.error("test", "the first item must be NONE, CMD or CMD-SHELL");
  }
  add_all(test, to->mutable_test());
  MUSTER_ASSIGN(const std::optional<int64_t> interval, check.duration_ns("interval"));
  MUSTER_ASSIGN(const std::optional<int64_t> timeout, check.duration_ns("timeout"));
  MUSTER_ASSIGN(const std::optional<int64_t> start_period, check.duration_ns("start_period"));
  MUSTER_ASSIGN(const std::optional<int64_t> start_interval, check.duration_ns("start_interval"));
  MUSTER_ASSIGN(const std::optional<int64_t> retries, check.integer("retries"));
  if (retries && (*retries < 0 || *retries > INT32_MAX)) {
    return check.error("retries", "must not be negative");
  }
  to->set_interval_ns(interval.value_or(0));
  to->set_timeout_ns(timeout.value_or(0));
  to->set_start_period_ns(start_period.value_or(0));
  to->set_start_interval_ns(start_interval.value_or(0));
  to->set_retries(static_cast<int32_t>(retries.value_or(0)));
  return {};
}

Status convert_ulimits(const Fields& fields, muster::v1::ContainerSpec* out) {
  const Fields ulimits = fields.child("ulimits");
  if (!ulimits.present()) return {};
  std::map<std::string, muster::v1::Ulimit> sorted;
  for (const Member& member : ulimits.node()->members) {
    muster::v1::Ulimit& to = sorted[member.key];
    to.set_name(member.key);
    const Fields limit = ulimits.child(member.key);
    MUSTER_ASSIGN(const std::optional<int64_t> both,
                  member.value.is_map() ? std::nullopt : ulimits.integer(member.key));
    MUSTER_ASSIGN(const std::optional<int64_t> soft, limit.integer("soft"));
    MUSTER_ASSIGN(const std::optional<int64_t> hard, limit.integer("hard"));
    to.set_soft(both.value_or(soft.value_or(0)));
    to.set_hard(both.value_or(hard.value_or(0)));
    if (to.hard() >= 0 && (to.soft() < 0 || to.soft() > to.hard())) {
      return ulimits.error(member.key, "the soft limit is above the hard limit");
    }
  }
  for (auto& [name, limit] : sorted) *out->add_ulimits() = std::move(limit);
  return {};
}

// What only the Specification dialect honours.
Status convert_host_options(const Fields& fields, muster::v1::ContainerSpec* out) {
  add_all(fields.texts("dns_opt"), out->mutable_dns()->mutable_options());
  if (out->dns().options().empty() && out->dns().nameservers().empty() &&
      out->dns().search().empty()) {
    out->clear_dns();
  }
  add_all(fields.texts("group_add"), out->mutable_groups());
  add_all(fields.texts("security_opt"), out->mutable_security_options());
  out->set_privileged(fields.flag("privileged"));
  if (fields.text("pid") == "host") out->set_pid_mode("host");
  if (fields.text("ipc") == "host") out->set_ipc_mode("host");
  MUSTER_ASSIGN(const std::optional<int64_t> shm, fields.size("shm_size"));
  out->set_shm_size_bytes(shm.value_or(0));
  const Node* devices = fields.find("devices");
  for (size_t i = 0; devices != nullptr && i < devices->items.size(); ++i) {
    const Fields device(&devices->items[i], fmt::format("{}.devices.{}", fields.path(), i));
    const std::string source = device.text("source");
    if (!source.starts_with('/')) {
      return device.error("source", fmt::format("\"{}\" is not an absolute path", source));
    }
    const std::string target = device.text("target");
    const std::string permissions = device.text("permissions");
    muster::v1::Device* to = out->add_devices();
    to->set_host_path(source);
    to->set_container_path(target.empty() ? source : target);
    to->set_permissions(permissions.empty() ? "rwm" : permissions);
    if (to->permissions().find_first_not_of("rwm") != std::string::npos) {
      return device.error("permissions",
                          fmt::format("\"{}\": only r, w and m are known", permissions));
    }
  }
  return {};
}

}  // namespace

Status convert_container(const Conversion& conversion, const Fields& fields,
                         muster::v1::ContainerSpec* out) {
  put_pairs(with_stack_label(conversion, fields.pairs("labels")), out->mutable_labels());
  add_all(fields.texts("entrypoint"), out->mutable_command());
  add_all(fields.texts("command"), out->mutable_args());
  out->set_hostname(fields.text("hostname"));
  MUSTER_TRY(convert_environment(fields, out));
  out->set_dir(fields.text("working_dir"));
  out->set_user(fields.text("user"));
  out->set_stop_signal(fields.text("stop_signal"));
  MUSTER_ASSIGN(const std::optional<int64_t> grace, fields.duration_ns("stop_grace_period"));
  if (grace) out->set_stop_grace_period_ns(*grace);
  out->set_tty(fields.flag("tty"));
  out->set_open_stdin(fields.flag("stdin_open"));
  out->set_read_only(fields.flag("read_only"));
  if (fields.find("init") != nullptr) out->set_init(fields.flag("init"));
  MUSTER_TRY(convert_healthcheck(fields, out));
  convert_hosts(fields, out);
  const std::vector<std::string> nameservers = fields.texts("dns");
  const std::vector<std::string> search = fields.texts("dns_search");
  if (!nameservers.empty() || !search.empty()) {
    add_all(nameservers, out->mutable_dns()->mutable_nameservers());
    add_all(search, out->mutable_dns()->mutable_search());
  }
  put_pairs(fields.pairs("sysctls"), out->mutable_sysctls());
  convert_capabilities(fields, out);
  MUSTER_TRY(convert_ulimits(fields, out));
  MUSTER_ASSIGN(const std::optional<int64_t> oom, fields.integer("oom_score_adj"));
  if (oom && (*oom < -1000 || *oom > 1000)) {
    return fields.error("oom_score_adj", "must be between -1000 and 1000");
  }
  out->set_oom_score_adj(oom.value_or(0));
  return conversion.spec() ? convert_host_options(fields, out) : Status();
}

// ---------------------------------------------------------------- resources

namespace {

// A legacy key beside its deploy.resources form: both may be there if they say the same.
Result<std::optional<int64_t>> one_of(const Fields& legacy, std::string_view key,
                                      std::optional<int64_t> old, const Fields& modern,
                                      std::string_view modern_key, std::optional<int64_t> value) {
  if (old && value && *old != *value) {
    return fail(legacy.error(key, fmt::format("cannot set distinct values on '{}' and '{}.{}'", key,
                                              modern.path(), modern_key)));
  }
  return value ? value : old;
}

Result<std::optional<int64_t>> legacy_cpus(const Fields& fields) {
  MUSTER_ASSIGN(const std::optional<int64_t> cpus, fields.cpus("cpus"));
  if (cpus) return cpus;
  MUSTER_ASSIGN(const std::optional<double> quota, fields.real("cpu_quota"));
  if (!quota || *quota <= 0) return std::nullopt;
  MUSTER_ASSIGN(const std::optional<double> period, fields.real("cpu_period"));
  const double nano = *quota / (period && *period > 0 ? *period : 100'000) * 1e9;
  if (!(nano < 1e18)) return fail(fields.error("cpu_quota", "is too large"));
  return static_cast<int64_t>(nano);
}

Status convert_limits(const Conversion& conversion, const Fields& fields, const Fields& limits,
                      muster::v1::ResourceRequirements* out) {
  MUSTER_ASSIGN(std::optional<int64_t> cpus, limits.cpus("cpus"));
  MUSTER_ASSIGN(std::optional<int64_t> memory, limits.size("memory"));
  MUSTER_ASSIGN(std::optional<int64_t> pids, limits.integer("pids"));
  if (conversion.spec()) {
    MUSTER_ASSIGN(const std::optional<int64_t> old_cpus, legacy_cpus(fields));
    MUSTER_ASSIGN(cpus, one_of(fields, "cpus", old_cpus, limits, "cpus", cpus));
    MUSTER_ASSIGN(const std::optional<int64_t> old_memory, fields.size("mem_limit"));
    MUSTER_ASSIGN(memory, one_of(fields, "mem_limit", old_memory, limits, "memory", memory));
    MUSTER_ASSIGN(const std::optional<int64_t> old_pids, fields.integer("pids_limit"));
    MUSTER_ASSIGN(pids, one_of(fields, "pids_limit", old_pids, limits, "pids", pids));
  }
  if (!cpus && !memory && !pids && !limits.present()) return {};
  muster::v1::Resources* to = out->mutable_limits();
  to->set_nano_cpus(cpus.value_or(0));
  to->set_memory_bytes(memory.value_or(0));
  to->set_pids(std::max<int64_t>(pids.value_or(0), 0));
  return {};
}

Status convert_reservations(const Conversion& conversion, const Fields& fields,
                            const Fields& reservations, muster::v1::ResourceRequirements* out) {
  MUSTER_ASSIGN(const std::optional<int64_t> cpus, reservations.cpus("cpus"));
  MUSTER_ASSIGN(std::optional<int64_t> memory, reservations.size("memory"));
  if (conversion.spec()) {
    MUSTER_ASSIGN(const std::optional<int64_t> old, fields.size("mem_reservation"));
    MUSTER_ASSIGN(memory, one_of(fields, "mem_reservation", old, reservations, "memory", memory));
  }
  if (!cpus && !memory && !reservations.present()) return {};
  muster::v1::Resources* to = out->mutable_reservations();
  to->set_nano_cpus(cpus.value_or(0));
  to->set_memory_bytes(memory.value_or(0));
  const Node* generic = reservations.find("generic_resources");
  for (size_t i = 0; generic != nullptr && i < generic->items.size(); ++i) {
    const Fields item(&generic->items[i],
                      fmt::format("{}.generic_resources.{}", reservations.path(), i));
    const Fields discrete = item.child("discrete_resource_spec");
    MUSTER_ASSIGN(const std::optional<int64_t> count, discrete.integer("value"));
    if (discrete.text("kind").empty() || !count || *count < 1) {
      return item.error("", "needs discrete_resource_spec with a kind and a value of at least 1");
    }
    muster::v1::GenericResource* resource = to->add_generic();
    resource->set_kind(discrete.text("kind"));
    resource->set_count(*count);
  }
  return {};
}

}  // namespace

Status convert_resources(const Conversion& conversion, const Fields& fields,
                         muster::v1::TaskSpec* out) {
  const Fields resources = fields.child("deploy").child("resources");
  muster::v1::ResourceRequirements requirements;
  MUSTER_TRY(convert_limits(conversion, fields, resources.child("limits"), &requirements));
  MUSTER_TRY(
      convert_reservations(conversion, fields, resources.child("reservations"), &requirements));
  if (conversion.spec()) {
    if (fields.text("memswap_limit") == "-1") {
      requirements.set_memory_swap_bytes(-1);
    } else {
      // The Specification counts memory and swap together, specs only the swap.
      MUSTER_ASSIGN(const std::optional<int64_t> both, fields.size("memswap_limit"));
      const int64_t memory = requirements.limits().memory_bytes();
      if (both && *both > 0 && (memory == 0 || *both < memory)) {
        return fields.error("memswap_limit",
                            "is memory and swap: it needs a mem_limit, and must "
                            "not be below it");
      }
      if (both && *both > 0) requirements.set_memory_swap_bytes(*both - memory);
    }
    MUSTER_ASSIGN(const std::optional<int64_t> swappiness, fields.integer("mem_swappiness"));
    if (swappiness && (*swappiness < -1 || *swappiness > 100)) {
      return fields.error("mem_swappiness", "must be between 0 and 100");
    }
    if (swappiness) requirements.set_memory_swappiness(*swappiness);
  }
  if (requirements.ByteSizeLong() > 0) *out->mutable_resources() = std::move(requirements);
  return {};
}

}  // namespace muster::deploy::compose
