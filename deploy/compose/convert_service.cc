#include <algorithm>
#include <set>
#include <tuple>

#include "deploy/compose/convert_parts.h"
#include "deploy/compose/values.h"
#include "overlay/balancer/spread_policy.h"
#include "overlay/ipam/port_options.h"

namespace muster::deploy::compose {
namespace {

constexpr std::string_view kImageLabel = "com.docker.stack.image";
constexpr std::string_view kDefaultNetwork = "default";

bool user_defined(std::string_view network) {
  return network != "default" && network != "bridge" && network != "host" && network != "none";
}

Status convert_mode(const Conversion& conversion, const Fields& fields,
                    muster::v1::ServiceSpec* out) {
  const Fields deploy = fields.child("deploy");
  const std::string mode = deploy.text("mode");
  MUSTER_ASSIGN(std::optional<int64_t> replicas, deploy.integer("replicas"));
  if (conversion.spec()) {
    MUSTER_ASSIGN(const std::optional<int64_t> scale, fields.integer("scale"));
    if (scale && replicas && *scale != *replicas) {
      return fields.error("scale", "cannot set distinct values on 'scale' and 'deploy.replicas'");
    }
    if (scale) replicas = scale;
  }
  if (replicas && *replicas < 0) return deploy.error("replicas", "must not be negative");
  const auto count = static_cast<uint64_t>(replicas.value_or(1));
  if (mode == "global" || mode == "global-job") {
    if (replicas) {
      return deploy.error("replicas",
                          "replicas can only be used with replicated or replicated-job mode");
    }
    if (mode == "global") {
      out->mutable_global();
    } else {
      out->mutable_global_job();
    }
  } else if (mode == "replicated-job") {
    out->mutable_replicated_job()->set_max_concurrent(count);
    out->mutable_replicated_job()->set_total_completions(count);
  } else if (mode == "replicated" || mode.empty()) {
    out->mutable_replicated()->set_replicas(count);
  } else {
    return deploy.error("mode", "unknown mode: " + mode);
  }
  return {};
}

Status convert_update(const Fields& fields, bool rollback, muster::v1::UpdateConfig* out) {
  using muster::v1::UpdateConfig;
  MUSTER_ASSIGN(const std::optional<int64_t> parallelism, fields.integer("parallelism"));
  if (parallelism && *parallelism < 0) return fields.error("parallelism", "must not be negative");
  out->set_parallelism(static_cast<uint64_t>(parallelism.value_or(1)));
  MUSTER_ASSIGN(const std::optional<int64_t> delay, fields.duration_ns("delay"));
  if (delay) out->set_delay_ns(*delay);
  MUSTER_ASSIGN(const std::optional<int64_t> monitor, fields.duration_ns("monitor"));
  if (monitor) out->set_monitor_ns(*monitor);
  const std::string action = fields.text("failure_action");
  if (action == "continue") {
    out->set_failure_action(UpdateConfig::CONTINUE);
  } else if (action == "rollback" && !rollback) {
    out->set_failure_action(UpdateConfig::ROLLBACK);
  } else if (!action.empty() && action != "pause") {
    return fields.error("failure_action", fmt::format("unknown action: {} (must be one of pause, "
                                                      "continue{})",
                                                      action, rollback ? "" : ", rollback"));
  }
  MUSTER_ASSIGN(const std::optional<double> ratio, fields.real("max_failure_ratio"));
  if (ratio && !(*ratio >= 0 && *ratio <= 1)) {
    return fields.error("max_failure_ratio", "must be between 0 and 1");
  }
  if (ratio) out->set_max_failure_ratio_ppm(static_cast<uint32_t>(*ratio * 1e6 + 0.5));
  if (fields.text("order") == "start-first") out->set_order(UpdateConfig::START_FIRST);
  return {};
}

// The legacy service-level `restart`.
Status convert_restart_word(const Conversion& conversion, const Fields& fields,
                            muster::v1::TaskSpec* out) {
  using muster::v1::RestartPolicy;
  const std::string text = fields.text("restart");
  if (text.empty()) return {};
  const size_t colon = text.find(':');
  const std::string name = text.substr(0, colon);
  int64_t attempts = 0;
  if (colon != std::string::npos) {
    const Result<int64_t> parsed = parse_integer(std::string_view(text).substr(colon + 1));
    if (!parsed) return fields.error("restart", "maximum retry count must be an integer");
    attempts = *parsed;
  }
  if (attempts < 0) {
    return fields.error("restart",
                        "invalid restart policy: maximum retry count cannot be negative");
  }
  if (name == "no") {
    // Swarm leaves its own default in force here; the Specification means it.
    if (conversion.spec()) out->mutable_restart()->set_condition(RestartPolicy::NONE);
    return {};
  }
  if (name == "always" || name == "unless-stopped") {
    out->mutable_restart()->set_condition(RestartPolicy::ANY);
  } else if (name == "on-failure") {
    out->mutable_restart()->set_condition(RestartPolicy::ON_FAILURE);
  } else {
    return fields.error("restart",
                        fmt::format("invalid restart policy: unknown policy '{}' (must be one of "
                                    "'no', 'always', 'on-failure', or 'unless-stopped')",
                                    name));
  }
  if (attempts > 0) out->mutable_restart()->set_max_attempts(static_cast<uint64_t>(attempts));
  return {};
}

Status convert_restart(const Conversion& conversion, const Fields& fields,
                       muster::v1::TaskSpec* out) {
  using muster::v1::RestartPolicy;
  const Fields policy = fields.child("deploy").child("restart_policy");
  if (!policy.present()) return convert_restart_word(conversion, fields, out);
  RestartPolicy* to = out->mutable_restart();
  const std::string condition = policy.text("condition");
  if (condition == "none") {
    to->set_condition(RestartPolicy::NONE);
  } else if (condition == "on-failure") {
    to->set_condition(RestartPolicy::ON_FAILURE);
  } else if (!condition.empty() && condition != "any") {
    return policy.error("condition", fmt::format("unknown condition: {} (must be one of none, "
                                                 "on-failure, any)",
                                                 condition));
  }
  MUSTER_ASSIGN(const std::optional<int64_t> delay, policy.duration_ns("delay"));
  if (delay) to->set_delay_ns(*delay);
  MUSTER_ASSIGN(const std::optional<int64_t> window, policy.duration_ns("window"));
  if (window) to->set_window_ns(*window);
  MUSTER_ASSIGN(const std::optional<int64_t> attempts, policy.integer("max_attempts"));
  if (attempts && *attempts < 0) return policy.error("max_attempts", "must not be negative");
  if (attempts) to->set_max_attempts(static_cast<uint64_t>(*attempts));
  return {};
}

Status convert_placement(const Conversion& conversion, const Fields& fields,
                         muster::v1::Placement* out) {
  const Fields placement = fields.child("deploy").child("placement");
  for (const std::string& constraint : placement.texts("constraints")) {
    out->add_constraints(constraint);
  }
  if (const Node* preferences = placement.find("preferences")) {
    for (const Node& preference : preferences->items) {
      const Node* spread = preference.find("spread");
      if (spread != nullptr) out->add_preferences()->set_spread_descriptor(spread->scalar_text());
    }
  }
  MUSTER_ASSIGN(const std::optional<int64_t> most, placement.integer("max_replicas_per_node"));
  if (most && *most < 0) return placement.error("max_replicas_per_node", "must not be negative");
  if (most) out->set_max_replicas(static_cast<uint64_t>(*most));
  const std::string platform = conversion.spec() ? fields.text("platform") : "";
  if (!platform.empty()) {
    const size_t slash = platform.find('/');
    const std::string rest = slash == std::string::npos ? "" : platform.substr(slash + 1);
    if (platform.substr(0, slash) != "linux") {
      return fields.error("platform", fmt::format("\"{}\": containers run on linux", platform));
    }
    muster::v1::Platform* to = out->add_platforms();
    to->set_os("linux");
    to->set_architecture(rest.substr(0, rest.find('/')));
  }
  return {};
}

// Where the port answers, and whom the task takes for the client; x-… are muster's own.
Status convert_port_options(const Fields& port, muster::v1::PortConfig* out) {
  const std::string address = port.text("host_ip");
  const std::string_view key = address.empty() ? "x-bind" : "host_ip";
  if (!address.empty() && !port.text("x-bind").empty()) {
    return port.error("x-bind", "host_ip says already where the port answers");
  }
  const auto bind = overlay::parse_bind(address.empty() ? port.text("x-bind") : address);
  if (!bind) return port.error(key, bind.error().message());
  out->set_bind(*bind);
  const std::string local = port.text("x-local");
  if (!local.empty() && local != "true" && local != "false") {
    return port.error("x-local", "must be true or false");
  }
  out->set_local(local == "true");
  if (const std::string choice = port.text("x-client-address"); !choice.empty()) {
    const auto parsed = overlay::parse_client_address(choice);
    if (!parsed) return port.error("x-client-address", parsed.error().message());
    out->set_client_address(*parsed);
  }
  if (const std::string version = port.text("x-proxy-protocol"); !version.empty()) {
    const auto parsed = overlay::parse_proxy_protocol(version);
    if (!parsed) return port.error("x-proxy-protocol", parsed.error().message());
    out->set_proxy_protocol(*parsed);
  }
  const Status fits = overlay::check_port_options(*out);
  return fits.ok() ? fits : port.error("", fits.message());
}

Status convert_endpoint(const Fields& fields, muster::v1::EndpointSpec* out) {
  using muster::v1::EndpointSpec;
  using muster::v1::PortConfig;
  const Fields deploy = fields.child("deploy");
  std::string mode = deploy.text("endpoint_mode");
  std::transform(mode.begin(), mode.end(), mode.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  if (mode == "dnsrr") {
    out->set_mode(EndpointSpec::DNSRR);
  } else if (!mode.empty() && mode != "vip") {
    return deploy.error("endpoint_mode",
                        fmt::format("unknown mode: {} (must be one of vip, dnsrr)", mode));
  }
  if (const std::string balancing = fields.text("x-balancing"); !balancing.empty()) {
    const auto parsed = overlay::parse_balancing(balancing);
    if (!parsed) return fields.error("x-balancing", parsed.error().message());
    out->set_balancing(*parsed);
  }
  MUSTER_ASSIGN(const std::optional<int64_t> affinity, fields.duration_ns("x-affinity"));
  if (affinity) out->set_affinity_ns(*affinity);
  out->set_weight_label(fields.text("x-weight-label"));
  MUSTER_ASSIGN(const std::optional<int64_t> drain, fields.duration_ns("x-drain-timeout"));
  if (drain) out->set_drain_timeout_ns(*drain);
  std::vector<PortConfig> ports;
  const Node* list = fields.find("ports");
  for (size_t i = 0; list != nullptr && i < list->items.size(); ++i) {
    const Fields port(&list->items[i], fmt::format("{}.ports.{}", fields.path(), i));
    PortConfig to;
    to.set_name(port.text("name"));
    const std::string protocol = port.text("protocol");
    if (protocol == "udp") {
      to.set_protocol(PortConfig::UDP);
    } else if (protocol == "sctp") {
      to.set_protocol(PortConfig::SCTP);
    } else if (!protocol.empty() && protocol != "tcp") {
      return port.error("protocol", "invalid protocol value '" + protocol + "'");
    }
    const std::string publish = port.text("mode");
    if (publish == "host") {
      to.set_mode(PortConfig::HOST);
    } else if (!publish.empty() && publish != "ingress") {
      return port.error("mode", "invalid publish mode value '" + publish + "'");
    }
    if (out->mode() == EndpointSpec::DNSRR && to.mode() == PortConfig::INGRESS) {
      return port.error("mode", "port published with ingress mode can't be used with dnsrr mode");
    }
    MUSTER_ASSIGN(const std::optional<int64_t> target, port.integer("target"));
    if (!target || *target < 1 || *target > 65535) {
      return port.error("target", "must be a port from 1 to 65535");
    }
    to.set_target_port(static_cast<uint32_t>(*target));
    MUSTER_ASSIGN(const std::optional<int64_t> published, port.integer("published"));
    if (published && (*published < 0 || *published > 65535)) {
      return port.error("published", "must be a port from 0 to 65535");
    }
    to.set_published_port(static_cast<uint32_t>(published.value_or(0)));
    MUSTER_TRY(convert_port_options(port, &to));
    ports.push_back(std::move(to));
  }
  std::stable_sort(ports.begin(), ports.end(), [](const PortConfig& a, const PortConfig& b) {
    return std::tuple(a.published_port(), a.target_port(), a.protocol(), a.mode(), a.bind()) <
           std::tuple(b.published_port(), b.target_port(), b.protocol(), b.mode(), b.bind());
  });
  for (PortConfig& port : ports) *out->add_ports() = std::move(port);
  return {};
}

Status convert_attachments(Conversion& conversion, const Fields& fields, const std::string& name,
                           muster::v1::TaskSpec* out) {
  using muster::v1::NetworkAttachmentConfig;
  const Node* networks = fields.find("networks");
  const bool listed = networks != nullptr && !networks->members.empty();
  const std::string mode = conversion.spec() ? fields.text("network_mode") : "";
  if (mode == "host" || mode == "none" || mode == "bridge") {
    if (listed) {
      return fields.error("network_mode", "conflicts with networks; use one of them");
    }
    out->add_networks()->set_target(mode);
    return {};
  }
  Node fallback = Node::map();
  fallback.set(kDefaultNetwork, Node::null());
  std::vector<NetworkAttachmentConfig> attachments;
  for (const Member& member : (listed ? *networks : fallback).members) {
    const Node* entry = conversion.entry("networks", member.key);
    if (entry == nullptr && member.key != kDefaultNetwork) {
      return error_at(member.key_at,
                      fmt::format("service {}: undefined network \"{}\"", name, member.key));
    }
    conversion.used_networks.insert(member.key);
    const Fields attachment(&member.value,
                            fmt::format("{}.networks.{}", fields.path(), member.key));
    NetworkAttachmentConfig to;
    to.set_target(conversion.name_of(entry, member.key));
    std::set<std::string> seen;
    for (const std::string& alias : attachment.texts("aliases")) {
      if (seen.insert(alias).second) to.add_aliases(alias);
    }
    if (user_defined(to.target()) && seen.insert(name).second) to.add_aliases(name);
    put_pairs(attachment.pairs("driver_opts"), to.mutable_driver_options());
    attachments.push_back(std::move(to));
  }
  std::sort(attachments.begin(), attachments.end(),
            [](const auto& a, const auto& b) { return a.target() < b.target(); });
  for (NetworkAttachmentConfig& attachment : attachments) {
    *out->add_networks() = std::move(attachment);
  }
  return {};
}

Status convert_image(const Conversion& conversion, const Fields& fields, const std::string& name,
                     muster::v1::ContainerSpec* out) {
  const std::string image = fields.text("image");
  if (image.empty()) {
    if (conversion.spec() && fields.find("build") != nullptr) {
      return fields.error("build",
                          "muster does not build images: build the image, push it to a registry "
                          "the nodes can reach, and name it with `image`");
    }
    return fields.error(
        "", fmt::format("invalid image reference for service {}: no image specified", name));
  }
  if (const Status status = check_image(image); !status.ok()) {
    return fields.error("image", status.message());
  }
  out->set_image(image);
  return {};
}

void convert_depends_on(const Fields& fields, muster::v1::ServiceSpec* out) {
  const Node* depends = fields.find("depends_on");
  if (depends == nullptr) return;
  std::map<std::string, muster::v1::ServiceDependency> sorted;
  for (const Member& member : depends->members) {
    const Fields entry(&member.value, fields.path() + ".depends_on." + member.key);
    muster::v1::ServiceDependency& to = sorted[member.key];
    to.set_service(member.key);
    to.set_condition(entry.text("condition"));
    to.set_required(entry.flag("required"));
    to.set_restart(entry.flag("restart"));
  }
  for (auto& [key, dependency] : sorted) *out->add_depends_on() = std::move(dependency);
}

}  // namespace

Result<muster::v1::ServiceSpec> convert_service(Conversion& conversion, const Member& service) {
  const Fields fields(&service.value, "services." + service.key);
  const Fields deploy = fields.child("deploy");
  muster::v1::ServiceSpec out;
  muster::v1::TaskSpec* task = out.mutable_task();
  MUSTER_TRY(convert_image(conversion, fields, service.key, task->mutable_container()));
  out.mutable_annotations()->set_name(conversion.scoped(service.key));
  Labels labels = with_stack_label(conversion, deploy.pairs("labels"));
  labels[std::string(kImageLabel)] = fields.text("image");
  put_pairs(labels, out.mutable_annotations()->mutable_labels());
  MUSTER_TRY(convert_mode(conversion, fields, &out));
  if (deploy.child("update_config").present()) {
    MUSTER_TRY(convert_update(deploy.child("update_config"), false, out.mutable_update()));
  }
  if (deploy.child("rollback_config").present()) {
    MUSTER_TRY(convert_update(deploy.child("rollback_config"), true, out.mutable_rollback()));
  }
  MUSTER_TRY(convert_endpoint(fields, out.mutable_endpoint()));
  MUSTER_TRY(convert_restart(conversion, fields, task));
  MUSTER_TRY(convert_placement(conversion, fields, task->mutable_placement()));
  MUSTER_TRY(convert_resources(conversion, fields, task));
  MUSTER_TRY(convert_attachments(conversion, fields, service.key, task));
  MUSTER_TRY(convert_container(conversion, fields, task->mutable_container()));
  MUSTER_TRY(convert_mounts(conversion, fields, task->mutable_container()));
  if (const Fields logging = fields.child("logging"); logging.present()) {
    task->mutable_log_driver()->set_name(logging.text("driver"));
    put_pairs(logging.pairs("options"), task->mutable_log_driver()->mutable_options());
  }
  if (conversion.spec()) convert_depends_on(fields, &out);
  return out;
}

}  // namespace muster::deploy::compose
