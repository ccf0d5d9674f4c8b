#include <algorithm>

#include "deploy/cli/commands.h"
#include "deploy/cli/listing.h"
#include "deploy/cli/quantities.h"

namespace muster::deploy::cli {
namespace {

// The options of init and update that become the cluster's spec.
struct ClusterFlags {
  std::optional<std::string> history, heartbeat, grace, cert_expiry, retention, log_driver;
  std::vector<std::string> log_options;

  void declare(Flags& flags) {
    flags.value("task-history-limit", &history, "N",
                "ended tasks kept per slot (5; negative = all)");
    flags.value("dispatcher-heartbeat", &heartbeat, "DURATION", "period of the nodes' heartbeat");
    flags.value("vanished-agent-grace", &grace, "DURATION",
                "how long a node stays up whose host answers but whose musterd is gone (30s)");
    flags.value("cert-expiry", &cert_expiry, "DURATION", "validity of node certificates (2160h)");
    flags.value("event-retention", &retention, "DURATION",
                "how long events and changes are kept (1h)");
    flags.value("default-log-driver", &log_driver, "NAME",
                "log driver of services that name none (empty = each node's own)");
    flags.list("default-log-opt", &log_options, "K=V", "option of that log driver");
  }
  bool any() const {
    return history || heartbeat || grace || cert_expiry || retention || log_driver ||
           !log_options.empty();
  }
  Status apply(v1::ClusterSpec* spec) const {
    const auto named = [](const char* flag, auto result) {
      if (!result)
        return decltype(result)(fail(usage_error(fmt::format(
            "invalid argument for \"--{}\" flag: {}", flag, result.error().message()))));
      return result;
    };
    if (history) {
      MUSTER_ASSIGN(const int64_t limit, named("task-history-limit", parse_signed(*history)));
      spec->set_task_history_limit(limit);
    }
    if (heartbeat) {
      MUSTER_ASSIGN(const int64_t ns, named("dispatcher-heartbeat", parse_duration_ns(*heartbeat)));
      spec->set_heartbeat_period_ns(ns);
    }
    if (grace) {
      MUSTER_ASSIGN(const int64_t ns, named("vanished-agent-grace", parse_duration_ns(*grace)));
      spec->set_vanished_agent_grace_ns(ns);
    }
    if (cert_expiry) {
      MUSTER_ASSIGN(const int64_t ns, named("cert-expiry", parse_duration_ns(*cert_expiry)));
      spec->set_node_cert_expiry_ns(ns);
    }
    if (retention) {
      MUSTER_ASSIGN(const int64_t ns, named("event-retention", parse_duration_ns(*retention)));
      if (ns <= 0) return usage_error("--event-retention must be more than 0");
      spec->set_event_retention_ns(ns);
    }
    return apply_log_driver(spec);
  }

 private:
  // Another driver begins without options; options alone change those there are.
  Status apply_log_driver(v1::ClusterSpec* spec) const {
    if (log_driver && log_driver->empty() && log_options.empty()) {
      spec->clear_default_log_driver();
      return ok_status();
    }
    if (log_driver) {
      spec->mutable_default_log_driver()->set_name(*log_driver);
      spec->mutable_default_log_driver()->clear_options();
    }
    for (const std::string& text : log_options) {
      const size_t equals = text.find('=');
      if (equals == std::string::npos || equals == 0)
        return usage_error(fmt::format("invalid log option \"{}\": write key=value", text));
      auto& options = *spec->mutable_default_log_driver()->mutable_options();
      auto found = std::find_if(options.begin(), options.end(), [&](const auto& option) {
        return option.key() == text.substr(0, equals);
      });
      v1::KeyValue& option = found == options.end() ? *options.Add() : *found;
      option.set_key(text.substr(0, equals));
      option.set_value(text.substr(equals + 1));
    }
    return ok_status();
  }
};

}  // namespace

Result<int> swarm_init(Run& run) {
  v1::InitSwarmRequest request;
  std::string listen, advertise, data_path, availability, port, mask;
  std::vector<std::string> pools;
  bool force_new = false;
  ClusterFlags cluster;
  run.flags.value("listen-addr", &listen, "ADDR[:PORT]", "address to listen on (0.0.0.0:2377)");
  run.flags.value("advertise-addr", &advertise, "ADDR|IFACE[:PORT]",
                  "address that other nodes reach this one at");
  run.flags.value("data-path-addr", &data_path, "ADDR|IFACE", "address for the tasks' traffic");
  run.flags.value("data-path-port", &port, "PORT", "UDP port for the tasks' traffic (4789)");
  run.flags.list("default-addr-pool", &pools, "CIDR", "pool that subnets are taken from");
  run.flags.value("default-addr-pool-mask-length", &mask, "BITS", "size of those subnets (24)");
  run.flags.value("availability", &availability, "active|pause|drain", "of this node");
  run.flags.toggle("force-new-cluster", &force_new, "start again from this node's state");
  cluster.declare(run.flags);
  MUSTER_TRY(run.parse(0, 0));
  request.set_listen_addr(listen);
  request.set_advertise_addr(advertise);
  request.set_data_path_addr(data_path);
  request.set_force_new_cluster(force_new);
  if (!port.empty()) {
    const auto number = parse_unsigned(port);
    if (!number || *number < 1024 || *number > 49151)
      return fail(
          usage_error(fmt::format("invalid data path port \"{}\": between 1024 and 49151", port)));
    request.set_data_path_port(static_cast<uint32_t>(*number));
  }
  if (!mask.empty()) {
    const auto bits = parse_unsigned(mask);
    if (!bits || *bits > 29)
      return fail(usage_error(fmt::format("invalid mask length \"{}\": at most 29", mask)));
    request.set_subnet_mask_bits(static_cast<uint32_t>(*bits));
  }
  for (const auto& pool : pools) request.add_default_address_pools(pool);
  if (availability == "pause")
    request.set_availability(v1::NodeSpec::PAUSE);
  else if (availability == "drain")
    request.set_availability(v1::NodeSpec::DRAIN);
  else if (!availability.empty() && availability != "active")
    return fail(usage_error(
        fmt::format("invalid availability \"{}\": active, pause or drain", availability)));
  if (cluster.any()) MUSTER_TRY(cluster.apply(request.mutable_spec()));
  MUSTER_ASSIGN(const auto response, run.client().call(request));
  run.line(
      fmt::format("Swarm initialized: current node ({}) is now a manager.", response.node_id()));
  if (!response.join_tokens().worker().empty())
    run.out(fmt::format(
        "\nTo add a worker to this swarm, run the following command:\n\n"
        "    muster swarm join --token {} {}\n\n"
        "To add a manager to this swarm, run 'muster swarm join-token manager' and follow the "
        "instructions.\n",
        response.join_tokens().worker(), response.manager_addr()));
  return 0;
}

Result<int> swarm_leave(Run& run) {
  v1::LeaveSwarmRequest request;
  bool force = false;
  run.flags.toggle("force,f", &force, "leave even if it ends the swarm");
  MUSTER_TRY(run.parse(0, 0));
  request.set_force(force);
  const auto response = run.client().call(request);
  if (!response) return fail(response.error());
  run.line("Node left the swarm.");
  return 0;
}

Result<int> swarm_join_token(Run& run) {
  bool rotate = false;
  bool quiet = false;
  run.flags.toggle("rotate", &rotate, "make the old token worthless");
  run.flags.toggle("quiet,q", &quiet, "only the token");
  MUSTER_TRY(run.parse(1, 1));
  const std::string& role = run.args[0];
  if (role != "worker" && role != "manager")
    return fail(usage_error(fmt::format("unknown role \"{}\": worker or manager", role)));
  MUSTER_ASSIGN(auto response, run.client().call(v1::GetClusterRequest()));
  v1::Cluster cluster = response.cluster();
  if (rotate) {
    v1::UpdateClusterRequest request;
    request.set_version(cluster.meta().version());
    *request.mutable_spec() = cluster.spec();
    request.set_rotate_worker_token(role == "worker");
    request.set_rotate_manager_token(role == "manager");
    MUSTER_ASSIGN(const auto updated, run.client().call(request));
    cluster = updated.cluster();
    if (!quiet) run.line(fmt::format("Successfully rotated {} join token.\n", role));
  }
  const auto& tokens = cluster.root_ca().join_tokens();
  const std::string& token = role == "worker" ? tokens.worker() : tokens.manager();
  if (quiet) {
    run.line(token);
    return 0;
  }
  v1::GetNodeRequest self;
  self.set_node("self");
  MUSTER_ASSIGN(const auto node, run.client().call(self));
  run.out(
      fmt::format("To add a {} to this swarm, run the following command:\n\n"
                  "    muster swarm join --token {} {}\n\n",
                  role, token, node.node().manager_status().address()));
  return 0;
}

Result<int> swarm_update(Run& run) {
  ClusterFlags cluster;
  cluster.declare(run.flags);
  MUSTER_TRY(run.parse(0, 0));
  if (!cluster.any()) return fail(usage_error("nothing to change: give at least one option"));
  MUSTER_ASSIGN(const auto current, run.client().call(v1::GetClusterRequest()));
  v1::UpdateClusterRequest request;
  request.set_version(current.cluster().meta().version());
  *request.mutable_spec() = current.cluster().spec();
  MUSTER_TRY(cluster.apply(request.mutable_spec()));
  const auto updated = run.client().call(request);
  if (!updated) return fail(updated.error());
  run.line("Swarm updated.");
  return 0;
}

}  // namespace muster::deploy::cli
