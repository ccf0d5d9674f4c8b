#pragma once

#include <string>
#include <vector>

#include "base/security/x509.h"
#include "base/status.h"
#include "base/time.h"
#include "muster/v1/control.pb.h"

namespace muster::manager::control {

// What `swarm init` makes the first state from.
struct ClusterSeed {
  std::string cluster_id;
  security::CertificateAndKey root;
  v1::InitSwarmRequest request;  // pools, spec and the rest, as the user gave them
};

// The cluster object with Swarm's defaults filled in, and fresh join tokens. INVALID_ARGUMENT for
// settings out of range, in the words of validate_cluster_spec().
Result<v1::Cluster> make_cluster(const ClusterSeed& seed);

// A manager's own node object, ready to be scheduled on.
v1::Node make_manager_node(const std::string& node_id, const std::string& advertise_addr,
                           v1::NodeSpec::Availability availability,
                           const v1::NodeDescription& description);

}  // namespace muster::manager::control
