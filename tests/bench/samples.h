#pragma once

#include <cstdint>

#include "base/rng.h"
#include "muster/v1/objects.pb.h"

namespace muster::bench {

// A small service; ids and names follow from the number.
v1::Service sample_service(uint64_t number);

// A task as one that an agent runs: what its state is, on which of `nodes` nodes, and its address.
// 200 in a row are one service's.
v1::Task sample_task(Rng& rng, uint64_t number, uint64_t nodes);

}  // namespace muster::bench
