#pragma once

#include "manager/store/snapshot.h"

namespace muster::manager::store {

// The network that ports published in ingress mode lead through; nullptr when there is none.
// O(1): asked for with every commit.
Ptr<v1::Network> ingress_network(const Snapshot& view);

}  // namespace muster::manager::store
