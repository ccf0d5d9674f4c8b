#include <unistd.h>

#include <algorithm>
#include <boost/json/parse.hpp>

#include "base/template.h"
#include "base/time.h"
#include "deploy/cli/commands.h"
#include "deploy/cli/docker_json.h"
#include "deploy/cli/listing.h"
#include "deploy/eval/eval.h"

namespace muster::deploy::cli {
namespace {

// What a manager knows of the swarm's settings; nothing while it cannot be asked.
std::string cluster_text(const v1::Cluster& cluster) {
  const auto& spec = cluster.spec();
  std::string out = "  Default Address Pool:";
  for (const auto& pool : cluster.default_address_pools()) out += " " + pool;
  out += fmt::format("\n  SubnetSize: {}\n  Data Path Port: {}\n", cluster.subnet_mask_bits(),
                     cluster.data_path_port());
  out += fmt::format("  Orchestration:\n   Task History Retention Limit: {}\n",
                     spec.task_history_limit());
  out += fmt::format(
      "  Raft:\n   Snapshot Interval: {}\n   Number of Old Snapshots to Retain: 0\n"
      "   Heartbeat: {}\n   Election Timeout: {}\n",
      spec.raft().snapshot_interval(), format_duration(Duration(spec.raft().heartbeat_period_ns())),
      format_duration(Duration(spec.raft().election_timeout_ns())));
  out += fmt::format("  Dispatcher:\n   Heartbeat Period: {}\n",
                     lower(human_duration(Duration(spec.heartbeat_period_ns()))));
  out += fmt::format("   Drain Acknowledgement Timeout: {}\n",
                     format_duration(Duration(spec.drain_ack_timeout_ns())));
  // A swarm that was made before there were such settings has the defaults.
  const auto& encryption = spec.encryption();
  const Duration rotation =
      encryption.key_rotation_ns() == 0 ? Duration(12h) : Duration(encryption.key_rotation_ns());
  const uint32_t port = encryption.udp_port() == 0 ? 4500 : encryption.udp_port();
  out += fmt::format(
      "  Encrypted Networks:\n   Key Rotation: {}\n   Encapsulation: {}\n",
      format_duration(rotation),
      encryption.udp_encapsulation() ? fmt::format("UDP, port {}", port) : "none (IP protocol 50)");
  if (!cluster.network_keys().empty()) {
    const auto& newest = *cluster.network_keys().rbegin();
    out += fmt::format("   Newest Key: {}, made {}{}\n", newest.number(),
                       format_rfc3339({newest.made_at_ns()}),
                       newest.used_from_ns() == 0 ? ", not used yet" : "");
  }
  out += fmt::format("  CA Configuration:\n   Expiry Duration: {}\n   Force Rotate: {}\n",
                     lower(human_duration(Duration(spec.node_cert_expiry_ns()))),
                     cluster.root_ca().last_forced_rotation());
  return out + fmt::format("  Autolock Managers: {}\n  Root Rotation In Progress: {}\n",
                           spec.autolock(), cluster.root_ca().has_rotation());
}

std::string swarm_text(const v1::GetInfoResponse& info, const v1::Cluster* cluster) {
  std::string out = fmt::format(" Swarm: {}\n", info.local_state());
  if (info.local_state() == "inactive" || info.local_state() == "locked") return out;
  out += fmt::format("  NodeID: {}\n", info.node_id());
  if (!info.error().empty()) out += fmt::format("  Error: {}\n", info.error());
  out += fmt::format("  Is Manager: {}\n", info.control_available());
  if (info.control_available()) {
    out += fmt::format("  ClusterID: {}\n  Managers: {}\n  Nodes: {}\n", info.cluster_id(),
                       info.managers(), info.nodes());
    out += fmt::format("  Leader: {}\n  Managers Reachable: {}\n",
                       info.leader_node_id().empty() ? "none" : info.leader_node_id(),
                       info.managers_reachable());
    if (cluster != nullptr) out += cluster_text(*cluster);
  }
  out += fmt::format("  Node Address: {}\n", info.node_addr());
  const auto& data_path = info.description().data_path();
  out += fmt::format("  Data Path Address: {}\n", data_path.address());
  if (data_path.mtu() != 0) out += fmt::format("  Data Path MTU: {}\n", data_path.mtu());
  std::vector<std::string> managers(info.manager_addrs().begin(), info.manager_addrs().end());
  std::sort(managers.begin(), managers.end(), natural_less);
  if (!managers.empty()) out += "  Manager Addresses:\n";
  for (const std::string& address : managers) out += fmt::format("   {}\n", address);
  return out;
}

std::string info_text(const v1::GetInfoResponse& info, const v1::Cluster* cluster) {
  const auto& about = info.description();
  std::string out = fmt::format("Client:\n Version: {}\n\nServer:\n", MUSTER_VERSION);
  out += fmt::format(" Version: {}\n Containers running: {}\n Images: {}\n Runtime: {}\n",
                     info.version(), info.containers_running(), info.images(), info.runtime());
  out += fmt::format(" Cgroup version: {}\n Load balancer: {}\n", info.cgroup_version(),
                     info.balancer());
  out +=
      fmt::format(" Encryption of networks: {}\n",
                  about.no_encryption().empty() ? "IPsec ESP" : "none: " + about.no_encryption());
  out += swarm_text(info, cluster);
  out += fmt::format(
      " Kernel Version: {}\n Operating System: {}\n OSType: {}\n Architecture: {}\n CPUs: {}\n"
      " Total Memory: {}\n Name: {}\n Root Dir: {}\n",
      info.kernel(), info.os(), about.platform().os(), about.platform().architecture(),
      about.resources().nano_cpus() / 1'000'000'000,
      binary_size(static_cast<uint64_t>(about.resources().memory_bytes())), about.hostname(),
      info.data_dir());
  if (!about.engine().labels().empty()) out += " Labels:\n";
  for (const auto& label : about.engine().labels())
    out += fmt::format("  {}={}\n", label.key(), label.value());
  for (const auto& limitation : about.limitations())
    out += fmt::format("WARNING: {}\n", limitation);
  return out;
}

Result<std::string> read_all(int fd) {
  std::string text;
  char buffer[65536];
  for (;;) {
    const ssize_t n = ::read(fd, buffer, sizeof buffer);
    if (n < 0) return fail(errno_status(errno, "standard input"));
    if (n == 0) return text;
    text.append(buffer, static_cast<size_t>(n));
    if (text.size() > (256U << 20)) return fail(resource_exhausted("the case is over 256 MiB"));
  }
}

}  // namespace

Result<int> info(Run& run) {
  std::string format;
  run.flags.value("format,f", &format, "TEMPLATE", "json or a template");
  MUSTER_TRY(run.parse(0, 0));
  MUSTER_ASSIGN(const auto response, run.client().call(v1::GetInfoRequest()));
  // Of a manager: the settings, as far as it can be asked for them.
  Result<v1::GetClusterResponse> cluster = fail(not_found("not asked"));
  if (response.control_available()) cluster = run.client().call(v1::GetClusterRequest());
  if (format.empty()) {
    run.out(info_text(response, cluster ? &cluster->cluster() : nullptr));
    return 0;
  }
  boost::json::array one;
  one.push_back(info_json(response, cluster ? &cluster->cluster() : nullptr));
  MUSTER_ASSIGN(const std::string text, render_inspect(one, format));
  run.out(text);
  return 0;
}

Result<int> version(Run& run) {
  std::string format;
  run.flags.value("format,f", &format, "TEMPLATE", "json or a template");
  MUSTER_TRY(run.parse(0, 0));
  const auto server = run.client().call(v1::GetInfoRequest());
  if (format.empty()) {
    run.out(fmt::format("Client:\n Version: {}\n", MUSTER_VERSION));
    if (!server) return fail(server.error());
    run.out(fmt::format("\nServer:\n Version: {}\n Runtime: {}\n Kernel:  {}\n", server->version(),
                        server->runtime(), server->kernel()));
    return 0;
  }
  boost::json::object client;
  client["Version"] = MUSTER_VERSION;
  boost::json::object both;
  both["Client"] = std::move(client);
  if (server) {
    boost::json::object about;
    about["Version"] = server->version();
    about["Runtime"] = server->runtime();
    about["KernelVersion"] = server->kernel();
    both["Server"] = std::move(about);
  } else {
    both["Server"] = nullptr;
  }
  boost::json::array one;
  one.push_back(std::move(both));
  MUSTER_ASSIGN(const std::string text, render_inspect(one, format));
  run.out(text);
  return 0;
}

Result<int> debug_eval(Run& run) {
  MUSTER_TRY(run.parse(1, 1));
  const std::string& suite = run.args[0];
  MUSTER_TRY(eval::check_suite(suite));
  MUSTER_ASSIGN(const std::string text, read_all(run.world.in_fd));
  boost::json::error_code error;
  const boost::json::value request = boost::json::parse(text, error);
  if (error) return fail(invalid_argument("standard input is not JSON: {}", error.message()));
  MUSTER_ASSIGN(const boost::json::value result, eval::evaluate(suite, request));
  run.out(pretty_json(result));
  return 0;
}

}  // namespace muster::deploy::cli
