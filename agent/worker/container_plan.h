#pragma once

#include <boost/json/value.hpp>
#include <map>
#include <string>
#include <vector>

#include "agent/runtime/runtime.h"
#include "base/status.h"
#include "muster/v1/agent.pb.h"
#include "muster/v1/netd.pb.h"
#include "overlay/dataplane/node_network.h"

namespace muster::agent {

// The node as templates, labels and files see it.
struct NodeContext {
  std::string node_id;
  std::string hostname;
  std::string os = "linux";
  std::string architecture;          // "x86_64"
  v1::LogDriver default_log_driver;  // the cluster's
  v1::LogDriver node_log_driver;     // this node's own, where neither service nor cluster says
};

// How a task's container is connected.
struct NetworkPlan {
  bool host = false;  // shares the host's namespace
  std::vector<overlay::ContainerLink> links;
};

// The functions here are pure: from what the manager sent to what a container needs.

// What the task's templates may refer to (TaskTemplateContext).
boost::json::value task_template_data(const v1::LocalTask& task, const NodeContext& node);
// The task's spec with its templates expanded. INVALID_ARGUMENT names the field.
Result<v1::TaskSpec> expand_spec(const v1::LocalTask& task, const NodeContext& node);
// "<task name>.<task id>".
std::string container_name(const v1::Task& task);
// com.docker.swarm.* and the container's own, sorted by key.
std::vector<v1::KeyValue> container_labels(const v1::LocalTask& task, const NodeContext& node);
// DOCKER_RESOURCE_<KIND>=... for the generic resources the task was given.
std::vector<std::string> resource_env(const v1::Task& task);
NetworkPlan plan_network(const v1::TaskAssignment& assignment, const v1::TaskSpec& spec);
// Mounts of the spec, and an anonymous volume for each of the image's volumes that none covers.
std::vector<v1::Mount> planned_mounts(const v1::ContainerSpec& spec, const ImageConfig& image);

// The resolver of a container with these links.
v1::NetdContainer plan_resolver(const NetworkPlan& plan, const ContainerRequest& request);
// The same resolver when the container is in other networks.
void set_resolver_networks(const NetworkPlan& plan, v1::NetdContainer& resolver);

// Texts of the files bound over /etc/hosts and /etc/resolv.conf.
std::string hosts_text(const v1::ContainerSpec& spec, const std::string& hostname,
                       const NetworkPlan& network);
// For a container with a resolver of its own at 127.0.0.11. `host_text` is the host's own file,
// which gives the search list where the service has none.
std::string resolver_conf_text(const v1::DnsConfig& dns, const std::string& host_text);
// For one without. `host_text` is the host's own file. Loopback servers of the host cannot be
// reached from another namespace and are left out.
std::string resolv_conf_text(const v1::DnsConfig& dns, const std::string& host_text,
                             bool host_network);

// Published ports of this node: ports of the host of the one tasks and ports of the mesh of the
// others, with their addresses. Sorted.
std::vector<overlay::PublishedPort> published_ports(
    const std::vector<const v1::LocalTask*>& on_host,
    const std::vector<const v1::LocalTask*>& in_mesh);
// "80/tcp".
std::string port_name(const v1::PortConfig& port);

}  // namespace muster::agent
