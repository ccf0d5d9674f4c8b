#pragma once

#include "base/status.h"
#include "manager/store/snapshot.h"
#include "muster/v1/specs.pb.h"

namespace muster::manager::control {

// Replaces names of networks, secrets and configs in a service's spec by ids. NOT_FOUND for an
// unknown network, INVALID_ARGUMENT for one that cannot be used (the ingress network) and for
// unknown secrets and configs (payload_references.h), FAILED_PRECONDITION for ports published in
// ingress mode where there is no ingress network.
Status resolve_references(const store::Snapshot& state, v1::ServiceSpec& spec);

// Ports the spec publishes that another service has. Ingress ports are unique in the cluster and
// exclude host-mode ones of the same number; host-mode ports may be shared by services.
// `service_id` is the service itself, empty for a new one. INVALID_ARGUMENT.
Status check_port_conflicts(const store::Snapshot& state, std::string_view service_id,
                            const v1::ServiceSpec& spec);

// ALREADY_EXISTS naming the network that has a subnet or the VXLAN id the new one asks for.
Status check_network_fits(const store::Snapshot& state, const v1::NetworkSpec& spec);

// FAILED_PRECONDITION naming the services that use the network, or whose update may be rolled back
// to it, or saying that tasks still do.
Status check_network_unused(const store::Snapshot& state, const v1::Network& network);

}  // namespace muster::manager::control
