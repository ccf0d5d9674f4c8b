#include "agent/worker/container_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <string_view>
#include <tuple>
#include <utility>

#include "agent/logs/log_plan.h"
#include "base/cidr_text.h"
#include "base/template.h"

namespace muster::agent {
namespace {

Status expand(std::string* text, const boost::json::value& data, std::string_view field) {
  if (text->find("{{") == std::string::npos) return {};
  auto expanded = expand_template(*text, data);
  if (!expanded) return expanded.error().with_context(field);
  *text = *std::move(expanded);
  return {};
}

bool is_ipv4(std::string_view address) {
  return address.find(':') == std::string_view::npos;
}

// The address of a family that a published port leads to; empty: there is none.
std::string port_backend(const v1::LocalTask& local, bool ingress_mode, bool v6) {
  bool led_out = false;  // by a bridge network
  std::string fallback;
  // The node has a way of its own to containers of overlay networks, also to those without one out.
  std::string last;
  for (const v1::NetworkAttachment& attachment : local.assignment().task().networks()) {
    const auto& networks = local.assignment().networks();
    const auto network = std::find_if(
        networks.begin(), networks.end(),
        [&](const v1::Network& candidate) { return candidate.id() == attachment.network_id(); });
    if (network == networks.end()) continue;
    // The default route is the first one's, and is of IPv6 only if that is.
    const bool bridge = network->spec().driver() == "bridge" && !network->spec().internal();
    if (bridge && std::exchange(led_out, true) && v6) continue;
    for (const std::string& cidr : attachment.addresses()) {
      const std::string address(without_prefix_length(cidr));
      if (is_ipv4(address) == v6) continue;
      // Host-mode ports go by the network that also leads out.
      if (!ingress_mode && !network->spec().internal() && !network->spec().ingress()) {
        return address;
      }
      if (fallback.empty() && !network->spec().internal()) fallback = address;
      if (last.empty() && network->spec().driver() != "bridge") last = address;
    }
  }
  return fallback.empty() ? last : fallback;
}

// Of both families. Those of an ingress port are in the ingress network, if the task is in it.
std::vector<std::string> port_backends(const v1::LocalTask& local, bool ingress_mode) {
  std::vector<std::string> out;
  const auto& networks = local.assignment().networks();
  for (const v1::NetworkAttachment& attachment : local.assignment().task().networks()) {
    const bool mesh = std::any_of(networks.begin(), networks.end(), [&](const v1::Network& n) {
      return n.id() == attachment.network_id() && n.spec().ingress();
    });
    if (!mesh || !ingress_mode) continue;
    for (const std::string& cidr : attachment.addresses())
      out.emplace_back(without_prefix_length(cidr));
  }
  if (!out.empty()) return out;
  for (const bool v6 : {false, true}) {
    std::string address = port_backend(local, ingress_mode, v6);
    if (!address.empty()) out.push_back(std::move(address));
  }
  return out;
}

}  // namespace

boost::json::value task_template_data(const v1::LocalTask& local, const NodeContext& node) {
  const v1::Task& task = local.assignment().task();
  TaskTemplateContext context;
  context.service_id = task.service_id();
  context.service_name = local.revision().service_name();
  for (const v1::KeyValue& label : local.revision().service_labels()) {
    context.service_labels[label.key()] = label.value();
  }
  context.node_id = node.node_id;
  context.node_hostname = node.hostname;
  context.node_os = node.os;
  context.node_architecture = node.architecture;
  context.task_id = task.id();
  context.task_name = container_name(task);
  // Slots of replicated jobs count from 0; tasks of global services are named after their node.
  const bool numbered = task.slot() > 0 || task.name().ends_with(".0");
  context.task_slot = numbered ? fmt::format("{}", task.slot()) : node.node_id;
  return context.to_json();
}

std::string container_name(const v1::Task& task) {
  return fmt::format("{}.{}", task.name(), task.id());
}

Result<v1::TaskSpec> expand_spec(const v1::LocalTask& task, const NodeContext& node) {
  const boost::json::value data = task_template_data(task, node);
  v1::TaskSpec spec = task.revision().spec();
  v1::ContainerSpec& container = *spec.mutable_container();
  MUSTER_TRY(expand(container.mutable_hostname(), data, "hostname"));
  for (std::string& env : *container.mutable_env()) MUSTER_TRY(expand(&env, data, "env"));
  for (v1::Mount& mount : *container.mutable_mounts()) {
    MUSTER_TRY(expand(mount.mutable_source(), data, "mount source"));
    MUSTER_TRY(expand(mount.mutable_target(), data, "mount target"));
    for (v1::KeyValue& label : *mount.mutable_volume()->mutable_labels()) {
      MUSTER_TRY(expand(label.mutable_value(), data, "volume label"));
    }
    for (v1::KeyValue& option : *mount.mutable_volume()->mutable_driver_options()) {
      MUSTER_TRY(expand(option.mutable_value(), data, "volume driver option"));
    }
  }
  *spec.mutable_log_driver() =
      effective_log_driver(spec.log_driver(), node.default_log_driver, node.node_log_driver);
  return spec;
}

std::vector<v1::KeyValue> container_labels(const v1::LocalTask& local, const NodeContext& node) {
  const v1::Task& task = local.assignment().task();
  std::map<std::string, std::string> labels;
  for (const v1::KeyValue& label : local.revision().spec().container().labels()) {
    labels[label.key()] = label.value();
  }
  labels["com.docker.swarm.task"] = "";
  labels["com.docker.swarm.task.id"] = task.id();
  labels["com.docker.swarm.task.name"] = container_name(task);
  labels["com.docker.swarm.node.id"] = node.node_id;
  labels["com.docker.swarm.service.id"] = task.service_id();
  labels["com.docker.swarm.service.name"] = local.revision().service_name();
  std::vector<v1::KeyValue> out;
  for (const auto& [key, value] : labels) {
    v1::KeyValue& label = out.emplace_back();
    label.set_key(key);
    label.set_value(value);
  }
  return out;
}

std::vector<std::string> resource_env(const v1::Task& task) {
  std::vector<std::string> out;
  for (const v1::GenericResource& resource : task.assigned_generic()) {
    std::string name = "DOCKER_RESOURCE_" + resource.kind();
    for (char& c : name) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    const std::string value = resource.names_size() > 0
                                  ? fmt::format("{}", fmt::join(resource.names(), ","))
                                  : fmt::format("{}", resource.count());
    out.push_back(fmt::format("{}={}", name, value));
  }
  return out;
}

NetworkPlan plan_network(const v1::TaskAssignment& assignment, const v1::TaskSpec& spec) {
  NetworkPlan plan;
  for (const v1::NetworkAttachmentConfig& wanted : spec.networks()) {
    if (wanted.target() == "host") plan.host = true;
  }
  for (const v1::Network& network : assignment.networks()) {
    const std::string& driver = network.spec().driver();
    if (driver == "host") plan.host = true;
    if (driver == "host" || driver == "none" || driver == "null") continue;
    for (const v1::NetworkAttachment& attachment : assignment.task().networks()) {
      if (attachment.network_id() != network.id()) continue;
      overlay::ContainerLink link;
      link.network = network;
      link.addresses.assign(attachment.addresses().begin(), attachment.addresses().end());
      link.mac = attachment.mac();
      const auto& connected = assignment.task().connected();
      link.by_hand = std::any_of(connected.begin(), connected.end(), [&](const auto& wanted) {
        return wanted.target() == network.id();
      });
      plan.links.push_back(std::move(link));
    }
  }
  if (plan.host) plan.links.clear();
  return plan;
}

std::vector<v1::Mount> planned_mounts(const v1::ContainerSpec& spec, const ImageConfig& image) {
  std::vector<v1::Mount> out(spec.mounts().begin(), spec.mounts().end());
  for (const std::string& path : image.volumes) {
    const bool covered = std::any_of(out.begin(), out.end(), [&](const v1::Mount& mount) {
      return mount.target() == path || mount.target() + "/" == path || mount.target() == path + "/";
    });
    if (covered || path.empty()) continue;
    v1::Mount& mount = out.emplace_back();
    mount.set_type(v1::Mount::VOLUME);
    mount.set_target(path);
  }
  return out;
}

std::string hosts_text(const v1::ContainerSpec& spec, const std::string& hostname,
                       const NetworkPlan& network) {
  std::string out =
      "127.0.0.1\tlocalhost\n"
      "::1\tlocalhost ip6-localhost ip6-loopback\n"
      "fe00::0\tip6-localnet\n"
      "ff00::0\tip6-mcastprefix\n"
      "ff02::1\tip6-allnodes\n"
      "ff02::2\tip6-allrouters\n";
  for (const std::string& line : spec.hosts()) {
    const size_t space = line.find(' ');
    out += line.substr(0, space);
    if (space != std::string::npos) out += "\t" + line.substr(space + 1);
    out += "\n";
  }
  if (network.links.empty()) {
    if (network.host) out += fmt::format("127.0.1.1\t{}\n", hostname);
    return out;
  }
  for (const overlay::ContainerLink& link : network.links) {
    for (const std::string& cidr : link.addresses) {
      out += fmt::format("{}\t{}\n", without_prefix_length(cidr), hostname);
    }
  }
  return out;
}

std::string resolv_conf_text(const v1::DnsConfig& dns, const std::string& host_text,
                             bool host_network) {
  std::string servers;
  std::string search;
  std::string options;
  std::string_view rest = host_text;
  while (!rest.empty()) {
    const size_t end = rest.find('\n');
    const std::string_view line = rest.substr(0, end);
    rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
    if (line.rfind("nameserver", 0) == 0) {
      const size_t begin = line.find_first_not_of(" \t", 10);
      if (begin == std::string_view::npos) continue;
      const std::string_view address = line.substr(begin);
      const bool loopback = address.rfind("127.", 0) == 0 || address.rfind("::1", 0) == 0;
      if (host_network || !loopback) servers += fmt::format("nameserver {}\n", address);
    } else if (line.rfind("search", 0) == 0 || line.rfind("domain", 0) == 0) {
      search = fmt::format("{}\n", line);
    } else if (line.rfind("options", 0) == 0) {
      options = fmt::format("{}\n", line);
    }
  }
  if (dns.nameservers_size() > 0) {
    servers.clear();
    for (const std::string& server : dns.nameservers()) {
      servers += fmt::format("nameserver {}\n", server);
    }
  }
  if (dns.search_size() > 0) search = fmt::format("search {}\n", fmt::join(dns.search(), " "));
  if (dns.options_size() > 0) options = fmt::format("options {}\n", fmt::join(dns.options(), " "));
  return search + servers + options;
}

std::string resolver_conf_text(const v1::DnsConfig& dns, const std::string& host_text) {
  std::string search;
  for (size_t at = 0; at < host_text.size();) {
    const size_t end = std::min(host_text.find('\n', at), host_text.size());
    const std::string line = host_text.substr(at, end - at);
    if (line.rfind("search", 0) == 0 || line.rfind("domain", 0) == 0) search = line + "\n";
    at = end + 1;
  }
  if (dns.search_size() > 0) search = fmt::format("search {}\n", fmt::join(dns.search(), " "));
  // "." asks for no search list at all.
  if (dns.search_size() == 1 && dns.search(0) == ".") search.clear();
  // A service's name has no dot, and is to be asked for as it is.
  std::string options = "options";
  const bool has_ndots =
      std::any_of(dns.options().begin(), dns.options().end(),
                  [](const std::string& option) { return option.rfind("ndots:", 0) == 0; });
  if (!has_ndots) options += " ndots:0";
  for (const std::string& option : dns.options()) options += " " + option;
  return search + "nameserver 127.0.0.11\n" + options + "\n";
}

void set_resolver_networks(const NetworkPlan& plan, v1::NetdContainer& out) {
  bool leads_out = false;
  out.clear_network_ids();
  for (const overlay::ContainerLink& link : plan.links) {
    // The ingress network brings traffic in; it lets a container out only where it is the only one.
    if (link.network.spec().ingress()) continue;
    leads_out = leads_out || !link.network.spec().internal();
    out.add_network_ids(link.network.id());
  }
  out.set_internal(!leads_out && out.network_ids_size() > 0);
}

v1::NetdContainer plan_resolver(const NetworkPlan& plan, const ContainerRequest& request) {
  v1::NetdContainer out;
  out.set_id(request.container_id);
  out.set_namespace_path(request.network_namespace);
  set_resolver_networks(plan, out);
  *out.mutable_nameservers() = request.spec.container().dns().nameservers();
  return out;
}

std::string port_name(const v1::PortConfig& port) {
  const char* protocol = "tcp";
  if (port.protocol() == v1::PortConfig::UDP) protocol = "udp";
  if (port.protocol() == v1::PortConfig::SCTP) protocol = "sctp";
  std::string at = port.bind();
  if (at.find(':') != std::string::npos) at = "[" + at + "]";
  return fmt::format("{}{}{}/{}", at, at.empty() ? "" : ":", port.published_port(), protocol);
}

std::vector<overlay::PublishedPort> published_ports(
    const std::vector<const v1::LocalTask*>& on_host,
    const std::vector<const v1::LocalTask*>& in_mesh) {
  using Key = std::tuple<int, uint32_t, std::string, uint32_t, std::string>;
  std::map<Key, overlay::PublishedPort> ports;
  const auto add = [&ports](const v1::LocalTask* local, bool ingress) {
    if (local->host_network()) return;  // the container listens on the host itself
    const v1::Task& task = local->assignment().task();
    for (v1::PortConfig port : task.ports()) {
      if ((port.mode() == v1::PortConfig::INGRESS) != ingress) continue;
      if (!ingress && port.published_port() == 0) {
        for (const v1::PortConfig& chosen : local->status().host_ports()) {
          if (chosen.target_port() == port.target_port() && chosen.protocol() == port.protocol()) {
            port.set_published_port(chosen.published_port());
          }
        }
      }
      if (port.published_port() == 0) continue;
      const std::vector<std::string> backends = port_backends(*local, ingress);
      if (backends.empty()) continue;
      const std::string& owner = ingress ? task.service_id() : task.id();
      overlay::PublishedPort& entry =
          ports[{port.protocol(), port.published_port(), owner, port.target_port(), port.bind()}];
      entry.port = port;
      entry.owner = owner;
      entry.backends.insert(entry.backends.end(), backends.begin(), backends.end());
      for (const std::string& backend : backends) {
        entry.containers[backend] = local->container_id();
      }
    }
  };
  for (const v1::LocalTask* task : on_host) add(task, false);
  for (const v1::LocalTask* task : in_mesh) add(task, true);
  std::vector<overlay::PublishedPort> out;
  for (auto& [key, port] : ports) {
    std::sort(port.backends.begin(), port.backends.end());
    port.backends.erase(std::unique(port.backends.begin(), port.backends.end()),
                        port.backends.end());
    out.push_back(std::move(port));
  }
  return out;
}

}  // namespace muster::agent
