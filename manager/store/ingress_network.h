#pragma once

#include <cstdint>

#include "manager/store/snapshot.h"

namespace muster::manager::store {

// The network that ports published in ingress mode lead through; nullptr when there is none.
// O(1): asked for with every commit.
Ptr<v1::Network> ingress_network(const Snapshot& view);

// So many nodes have a place in it at most: marks and zones of connections have 16 bits.
inline constexpr uint32_t kMeshNodesMax = 65535;

}  // namespace muster::manager::store
