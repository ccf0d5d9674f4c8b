#pragma once

#include <memory>
#include <string>

#include "agent/images/image_store.h"
#include "agent/names/netd_link.h"
#include "agent/runtime/conmon_runtime.h"
#include "agent/volumes/volume_store.h"
#include "base/log.h"
#include "base/metrics.h"
#include "deploy/daemon/options.h"
#include "overlay/dataplane/container/flows.h"
#include "overlay/dataplane/esp/esp_probe.h"
#include "overlay/dataplane/node_network.h"

namespace muster::daemon {

// What a host has in or outside of a swarm: its runtime, images, volumes and network. Thread-safe;
// made once at start, outlives the roles.
struct NodeParts {
  std::unique_ptr<agent::ConmonRuntime> runtime;
  std::unique_ptr<agent::ImageStore> images;
  std::unique_ptr<agent::VolumeStore> volumes;
  std::unique_ptr<overlay::NodeNetwork> network;
  std::string balancer;  // what leads virtual addresses to tasks
  overlay::EncryptionProbe encryption;
  std::unique_ptr<overlay::ContainerFlows> flows;
  std::unique_ptr<agent::NetdLink> names;
};

// `metrics` outlives them. Names the part that cannot be had and why: "container runtime crun not
// found ...".
Result<std::unique_ptr<NodeParts>> make_node_parts(const Options& options,
                                                   const std::string& instance_id, Metrics& metrics,
                                                   const Log& log);

}  // namespace muster::daemon
