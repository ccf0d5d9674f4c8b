#pragma once

#include <string_view>

#include "base/status.h"
#include "muster/v1/control.pb.h"

namespace muster::manager::control {

// Checks of specs by themselves, with Swarm's messages where Swarm has one. Pure. What needs the
// store (names of networks, ports of other services) is in references.h. All
// INVALID_ARGUMENT.

// A service or network name: a DNS label of at most 63 characters.
Status validate_name(std::string_view name);
// "[domain[:port]/]path[:tag][@digest]", as the registries define it.
Status validate_image_reference(std::string_view reference);
Status validate_labels(const google::protobuf::RepeatedPtrField<v1::KeyValue>& labels);

Status validate_service_spec(const v1::ServiceSpec& spec);
Status validate_network_spec(const v1::NetworkSpec& spec);
Status validate_node_spec(const v1::NodeSpec& spec);
Status validate_cluster_spec(const v1::ClusterSpec& spec);

// Sorts labels and fills in what Swarm fills in (mode, counts of a job). Called before validation.
void normalise(v1::ServiceSpec& spec);

}  // namespace muster::manager::control
