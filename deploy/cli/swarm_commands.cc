#include "base/file.h"
#include "deploy/cli/cluster_flags.h"
#include "deploy/cli/commands.h"
#include "deploy/cli/listing.h"
#include "deploy/cli/quantities.h"
#include "deploy/cli/swarm_text.h"

namespace muster::deploy::cli {
Result<int> swarm_init(Run& run) {
  v1::InitSwarmRequest request;
  std::string listen, advertise, data_path, availability, port, mask, ca_cert, ca_key;
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
  run.flags.toggle("force-new-cluster", &force_new,
                   "make this node the only manager, with the state it has");
  run.flags.value("ca-cert", &ca_cert, "FILE", "the swarm's root certificate, in PEM");
  run.flags.value("ca-key", &ca_key, "FILE", "the root's key, in PEM");
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
  MUSTER_ASSIGN(const auto wanted, parse_availability(availability));
  request.set_availability(wanted);
  if (ca_cert.empty() != ca_key.empty())
    return fail(usage_error("--ca-cert and --ca-key go together"));
  if (!ca_cert.empty()) {
    MUSTER_TRY(read_pem_file(run, ca_cert, request.mutable_ca_certificate_pem()));
    MUSTER_TRY(read_pem_file(run, ca_key, request.mutable_ca_key_pem()));
  }
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
  if (!response.unlock_key().empty()) run.out(unlock_text(response.unlock_key()));
  return 0;
}

Result<int> swarm_join(Run& run) {
  v1::JoinSwarmRequest request;
  std::string token, listen, advertise, data_path, availability;
  run.flags.value("token", &token, "TOKEN", "what lets this node in");
  run.flags.value("listen-addr", &listen, "ADDR[:PORT]", "address to listen on (0.0.0.0:2377)");
  run.flags.value("advertise-addr", &advertise, "ADDR|IFACE[:PORT]",
                  "address that other nodes reach this one at");
  run.flags.value("data-path-addr", &data_path, "ADDR|IFACE", "address for the tasks' traffic");
  run.flags.value("availability", &availability, "active|pause|drain", "of this node");
  MUSTER_TRY(run.parse(1, 1));
  if (token.empty())
    return fail(
        usage_error("--token is missing: \"muster swarm join-token\" on a manager shows it"));
  MUSTER_ASSIGN(const auto wanted, parse_availability(availability));
  request.set_join_token(token);
  request.add_remote_addrs(run.args[0]);
  request.set_listen_addr(listen);
  request.set_advertise_addr(advertise);
  request.set_data_path_addr(data_path);
  request.set_availability(wanted);
  MUSTER_ASSIGN(const auto joined, run.client().call(request));
  run.line(joined.manager() ? "This node joined a swarm as a manager."
                            : "This node joined a swarm as a worker.");
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
  if (request.spec().autolock() && !current.cluster().spec().autolock()) {
    MUSTER_ASSIGN(const auto key, run.client().call(v1::GetUnlockKeyRequest()));
    run.out(unlock_text(key.unlock_key()));
  }
  return 0;
}

}  // namespace muster::deploy::cli
