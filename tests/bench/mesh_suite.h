#pragma once

#include "tests/bench/report.h"

namespace muster::bench {

// What the data path costs: two nodes and a client outside, each in a network namespace, with the
// networks as an agent makes them. Bytes and new connections per second, and the time until a new
// connection is answered, of
//   direct   container to container on one node, by address
//   vip      the same, by the service's virtual address
//   vxlan    container to container on another node, by address
//   far_vip  the same, by the service's virtual address
//   ingress  a client outside to a published port of a node, the task on the other one
// The ratios are those of one run, whose paths take turns. options.balancer leads virtual
// addresses; published ports are nftables' in any case. Needs root, and for "ipvs" a kernel that
// has it.
Status run_mesh_suite(const SuiteOptions& options, Report& report);

}  // namespace muster::bench
