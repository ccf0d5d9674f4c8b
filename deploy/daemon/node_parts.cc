#include "deploy/daemon/node_parts.h"

#include <utility>

#include "agent/images/local_image_store.h"
#include "agent/volumes/local_volume_store.h"
#include "deploy/daemon/host.h"
#include "deploy/daemon/netd_program.h"
#include "overlay/dataplane/host/port_messages.h"
#include "overlay/dataplane/linux_network.h"

namespace muster::daemon {
namespace {

std::function<void(const overlay::EspCounts&)> encryption_metrics(Metrics& metrics) {
  constexpr const char* kPlain = "muster_encryption_plain_dropped_total";
  constexpr const char* kPlainHelp =
      "Packets of encrypted networks that were in plain text and were dropped";
  constexpr const char* kRefused = "muster_encryption_refused_total";
  constexpr const char* kRefusedHelp =
      "Packets of encrypted networks that were taken for replays or forgeries and were dropped";
  return [&states = metrics.gauge("muster_encryption_states",
                                  "IPsec states of encrypted networks in the kernel"),
          &out = metrics.counter(kPlain, kPlainHelp, {{"direction", "out"}}),
          &in = metrics.counter(kPlain, kPlainHelp, {{"direction", "in"}}),
          &replays = metrics.counter(kRefused, kRefusedHelp, {{"reason", "replay"}}),
          &forged = metrics.counter(kRefused, kRefusedHelp, {{"reason", "forged"}})](
             const overlay::EspCounts& counts) {
    states.set(static_cast<int64_t>(counts.states));
    out.add(counts.plain_out);
    in.add(counts.plain_in);
    replays.add(counts.replays);
    forged.add(counts.forged);
  };
}

}  // namespace

Result<std::unique_ptr<NodeParts>> make_node_parts(const Options& options,
                                                   const std::string& instance_id, Metrics& metrics,
                                                   const Log& log) {
  auto parts = std::make_unique<NodeParts>();
  const std::string run_dir = options.run_dir / instance_id;

  agent::RuntimeOptions runtime;
  runtime.runtime = options.runtime;
  runtime.allow_privileged = options.allow_privileged;
  runtime.instance_id = instance_id;
  runtime.run_dir = run_dir;
  runtime.init_by_default = options.default_init;
  MUSTER_ASSIGN(parts->runtime, agent::make_runtime(runtime, child_log(log, "runtime")));

  agent::ImageStoreOptions images;
  images.data_dir = options.data_dir;
  images.insecure_registries = options.insecure_registries;
  if (!options.registry_mirrors.empty()) {
    images.mirrors.push_back({"docker.io", options.registry_mirrors});
  }
  MUSTER_ASSIGN(parts->images, agent::make_image_store(images, child_log(log, "images")));

  agent::VolumeStoreOptions volumes;
  volumes.data_dir = options.data_dir;
  MUSTER_ASSIGN(parts->volumes, agent::make_volume_store(volumes, child_log(log, "volumes")));

  overlay::NodeNetworkOptions network;
  network.instance_id = instance_id;
  network.run_dir = options.run_dir;
  network.resolvers = host_resolvers;
  MUSTER_ASSIGN(network.balancer, overlay::choose_balancer(options.balancer));
  parts->balancer = network.balancer.name();
  network.encryption.lane_file = options.data_dir / "encryption-lane";
  // By then it is there: the network is told nothing before.
  network.encryption.hold = [parts = parts.get()](uint16_t port) {
    return parts->names->hold_encapsulation(port);
  };
  network.encryption.count = encryption_metrics(metrics);
  network.port_socket = overlay::port_socket(run_dir);
  MUSTER_ASSIGN(parts->network, overlay::make_node_network(network, child_log(log, "network")));
  parts->flows = overlay::make_container_flows(
      overlay::container_namespaces(options.run_dir.string(), instance_id));

  agent::NetdLinkOptions names;
  names.run_dir = run_dir;
  names.ttl = options.dns_ttl;
  names.virtual_ips = true;
  names.build = program_build();
  MUSTER_ASSIGN(names.launch, netd_launcher(options, instance_id));
  parts->names = std::make_unique<agent::NetdLink>(std::move(names), child_log(log, "names"));
  return parts;
}

}  // namespace muster::daemon
