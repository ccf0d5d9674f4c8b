#include "deploy/cli/service_text.h"

#include <algorithm>

#include "base/rng.h"
#include "base/time.h"
#include "deploy/cli/names.h"
#include "deploy/cli/quantities.h"
#include "deploy/cli/task_table.h"
#include "overlay/balancer/spread_policy.h"

namespace muster::deploy::cli {
namespace {

std::string port_text(const v1::PortConfig& port) {
  std::string out = fmt::format(
      " PublishedPort = {}\n  Protocol = {}\n  TargetPort = {}\n"
      "  PublishMode = {}\n",
      port.published_port(), protocol_name(port.protocol()), port.target_port(),
      port.mode() == v1::PortConfig::HOST ? "host" : "ingress");
  if (!port.bind().empty()) out += fmt::format("  Bind = {}\n", port.bind());
  if (port.local()) out += "  Local = true\n";
  if (port.client_address() != v1::PortConfig::AUTOMATIC)
    out += fmt::format("  ClientAddress = {}\n", client_address_name(port.client_address()));
  if (port.proxy_protocol() != 0)
    out += fmt::format("  ProxyProtocol = {}\n", port.proxy_protocol());
  return out;
}

std::string balancing_text(const v1::EndpointSpec& endpoint) {
  std::string out;
  if (endpoint.balancing() != v1::EndpointSpec::ROUND_ROBIN)
    out += fmt::format("Balancing:\t{}\n", overlay::balancing_name(endpoint.balancing()));
  if (endpoint.affinity_ns() != 0)
    out += fmt::format("Affinity:\t{}\n", format_duration(Duration(endpoint.affinity_ns())));
  if (!endpoint.weight_label().empty())
    out += fmt::format("Weight Label:\t{}\n", endpoint.weight_label());
  return out;
}

void update_lines(const char* title, const v1::UpdateConfig& config, std::string* out) {
  *out += fmt::format("{}:\n Parallelism:\t{}\n", title, config.parallelism());
  if (config.delay_ns() != 0)
    *out += fmt::format(" Delay:\t\t{}\n", format_duration(Duration(config.delay_ns())));
  *out += fmt::format(" On failure:\t{}\n", failure_action_name(config.failure_action()));
  if (config.has_monitor_ns())
    *out += fmt::format(" Monitoring Period: {}\n", format_duration(Duration(config.monitor_ns())));
  if (config.has_progress_deadline_ns())
    *out += fmt::format(" Progress deadline: {}\n",
                        format_duration(Duration(config.progress_deadline_ns())));
  *out += fmt::format(" Max failure ratio: {}\n", config.max_failure_ratio_ppm() / 1e6);
  *out +=
      fmt::format(" Update order:      {}\n",
                  config.order() == v1::UpdateConfig::START_FIRST ? "start-first" : "stop-first");
}

void job_lines(const v1::Service& service, std::string* out) {
  if (service.spec().has_replicated_job()) {
    const auto& job = service.spec().replicated_job();
    *out += fmt::format(" Max Concurrent:\t{}\n Total Completions:\t{}\n", job.max_concurrent(),
                        job.total_completions());
  }
  const auto& status = service.job_status();
  *out += fmt::format("JobStatus:\n Iteration:\t{}\n State:\t\t{}\n", status.iteration(),
                      job_state_name(status.state()));
  if (status.failed() > 0) *out += fmt::format(" Failed:\t{}\n", status.failed());
  if (!status.message().empty()) *out += fmt::format(" Message:\t{}\n", status.message());
}

void container_lines(const v1::ContainerSpec& container, std::string* out) {
  *out += fmt::format("ContainerSpec:\n Image:\t\t{}\n", container.image());
  const auto list = [&](const char* title, const auto& items) {
    if (items.empty()) return;
    *out += fmt::format(" {}:\t\t{}\n", title,
                        join(std::vector<std::string>(items.begin(), items.end()), " "));
  };
  list("Command", container.command());
  list("Args", container.args());
  list("Env", container.env());
  if (!container.dir().empty()) *out += fmt::format(" Dir:\t\t{}\n", container.dir());
  if (!container.user().empty()) *out += fmt::format(" User:\t\t{}\n", container.user());
  if (!container.configs().empty()) *out += "Configs:\n";
  for (const auto& config : container.configs())
    *out +=
        fmt::format(" Target:\t{}\n  Source:\t{}\n", config.file().name(), config.config_name());
  if (!container.secrets().empty()) *out += "Secrets:\n";
  for (const auto& secret : container.secrets())
    *out +=
        fmt::format(" Target:\t{}\n  Source:\t{}\n", secret.file().name(), secret.secret_name());
  if (container.mounts().empty()) return;
  *out += "Mounts:\n";
  for (const auto& mount : container.mounts())
    *out +=
        fmt::format(" Target:\t{}\n  Source:\t{}\n  ReadOnly:\t{}\n  Type:\t\t{}\n", mount.target(),
                    mount.source(), mount.read_only(), mount_type_name(mount.type()));
}

void resource_lines(const char* title, const v1::Resources& resources, std::string* out) {
  *out += fmt::format(" {}:\n", title);
  if (resources.nano_cpus() != 0)
    *out += fmt::format("  CPU:\t\t{}\n", static_cast<double>(resources.nano_cpus()) / 1e9);
  if (resources.memory_bytes() != 0)
    *out += fmt::format("  Memory:\t{}\n",
                        binary_size(static_cast<uint64_t>(resources.memory_bytes())));
}

}  // namespace

std::string replicas_text(const v1::GetServiceResponse& service) {
  const auto& spec = service.service().spec();
  const auto& status = service.status();
  std::string text = fmt::format("{}/{}", status.running_tasks(), status.desired_tasks());
  if (spec.has_replicated_job() || spec.has_global_job()) {
    // Desired of a global job is what has not completed yet. As Docker, without the maximum per
    // node: the line would be too long.
    const uint64_t total =
        spec.has_replicated_job()
            ? spec.replicated_job().total_completions()
            : status.desired_tasks() + status.completed_tasks() + status.failed_tasks();
    text += fmt::format(" ({}/{} completed)", status.completed_tasks(), total);
    if (status.failed_tasks() > 0) text += fmt::format(" ({} failed)", status.failed_tasks());
    return text;
  }
  if (const uint64_t most = spec.task().placement().max_replicas(); most > 0)
    text += fmt::format(" (max {} per node)", most);
  return text;
}

Listing service_listing(std::vector<v1::GetServiceResponse> services, const ListOptions& options) {
  Listing listing({{"ID", "ID"},
                   {"Name", "NAME"},
                   {"Mode", "MODE"},
                   {"Replicas", "REPLICAS"},
                   {"Image", "IMAGE"},
                   {"Ports", "PORTS"}});
  std::sort(services.begin(), services.end(), [](const auto& a, const auto& b) {
    return natural_less(a.service().spec().annotations().name(),
                        b.service().spec().annotations().name());
  });
  for (const auto& entry : services) {
    const auto& service = entry.service();
    const auto& spec = service.spec();
    const auto& filters = options.filters;
    if (!filters.prefixes("id", service.id()) ||
        !filters.prefixes("name", spec.annotations().name()) ||
        !filters.equals("mode", mode_name(spec)) ||
        !filters.labels("label", spec.annotations().labels()))
      continue;
    const auto& ports =
        service.endpoint().ports().empty() ? spec.endpoint().ports() : service.endpoint().ports();
    listing.add({options.id(service.id()), spec.annotations().name(), mode_name(spec),
                 replicas_text(entry), image_text(spec.task().container().image(), false),
                 ports_text(ports, true)});
  }
  return listing;
}

std::string service_pretty(const v1::Service& service) {
  const auto& spec = service.spec();
  std::string out =
      fmt::format("\nID:\t\t{}\nName:\t\t{}\n", service.id(), spec.annotations().name());
  if (!spec.annotations().labels().empty()) out += "Labels:\n";
  for (const auto& label : spec.annotations().labels())
    out += fmt::format(" {}={}\n", label.key(), label.value());
  out += fmt::format("Service Mode:\t{}\n", capitalized(mode_name(spec)));
  if (spec.has_replicated()) out += fmt::format(" Replicas:\t{}\n", spec.replicated().replicas());
  if (service.has_job_status()) job_lines(service, &out);
  if (service.update_status().state() != 0) {
    out += fmt::format("UpdateStatus:\n State:\t\t{}\n",
                       update_state_name(service.update_status().state()));
    if (!service.update_status().message().empty())
      out += fmt::format(" Message:\t{}\n", service.update_status().message());
  }
  const auto& placement = spec.task().placement();
  if (!placement.constraints().empty() || placement.max_replicas() > 0) out += "Placement:\n";
  if (!placement.constraints().empty())
    out +=
        fmt::format(" Constraints:\t[{}]\n",
                    join({placement.constraints().begin(), placement.constraints().end()}, ", "));
  if (placement.max_replicas() > 0)
    out += fmt::format(" Max Replicas Per Node:\t{}\n", placement.max_replicas());
  if (spec.has_update()) update_lines("UpdateConfig", spec.update(), &out);
  if (spec.has_rollback()) update_lines("RollbackConfig", spec.rollback(), &out);
  container_lines(spec.task().container(), &out);
  const auto& resources = spec.task().resources();
  if (resources.has_limits() || resources.has_reservations()) out += "Resources:\n";
  if (resources.has_reservations()) resource_lines("Reservations", resources.reservations(), &out);
  if (resources.has_limits()) resource_lines("Limits", resources.limits(), &out);
  const auto& log_driver = spec.task().log_driver();
  if (!log_driver.name().empty() || !log_driver.options().empty()) out += "Log Driver:\n";
  if (!log_driver.name().empty()) out += fmt::format(" Name:\t\t{}\n", log_driver.name());
  if (!log_driver.options().empty()) out += " LogOpts:\n";
  for (const auto& option : log_driver.options())
    out += fmt::format("  {}:\t{}\n", option.key(), option.value());
  if (!spec.task().networks().empty()) {
    std::vector<std::string> targets;
    for (const auto& network : spec.task().networks()) targets.push_back(network.target());
    out += fmt::format("Networks: {}\n", join(targets, " "));
  }
  out += fmt::format("Endpoint Mode:\t{}\n",
                     spec.endpoint().mode() == v1::EndpointSpec::DNSRR ? "dnsrr" : "vip");
  out += balancing_text(spec.endpoint());
  if (spec.endpoint().has_drain_timeout_ns())
    out += fmt::format("Drain Timeout:\t{}\n",
                       format_duration(Duration(spec.endpoint().drain_timeout_ns())));
  const auto& ports =
      service.endpoint().ports().empty() ? spec.endpoint().ports() : service.endpoint().ports();
  if (!ports.empty()) out += "Ports:\n";
  for (const auto& port : ports) out += port_text(port);
  if (!service.allocation_error().empty())
    out += fmt::format("Error:\t\t{}\n", service.allocation_error());
  return out;
}

std::string random_name() {
  static constexpr const char* kFirst[] = {"amber",  "brisk", "calm",  "clever", "eager", "fair",
                                           "gentle", "happy", "keen",  "lively", "merry", "noble",
                                           "proud",  "quiet", "swift", "warm"};
  static constexpr const char* kSecond[] = {"badger", "beaver", "crane", "falcon", "finch", "fox",
                                            "hare",   "heron",  "lark",  "lynx",   "otter", "owl",
                                            "raven",  "seal",   "stork", "wren"};
  SystemRng rng;
  return fmt::format("{}_{}{}", kFirst[rng.below(16)], kSecond[rng.below(16)], rng.below(1000));
}

Result<uint64_t> parse_replicas(const std::string& text) {
  return parse_unsigned(text);
}

}  // namespace muster::deploy::cli
