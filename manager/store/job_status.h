#pragma once

#include <cstdint>

#include "muster/v1/objects.pb.h"

namespace muster::manager::store {

// Whether tasks of the service are to end: mode replicated-job or global-job.
bool is_job(const v1::ServiceSpec& spec);

// Lists of slots as JobStatus has them.
using SlotRanges = google::protobuf::RepeatedPtrField<v1::SlotRange>;
uint64_t slots_in(const SlotRanges& ranges);
// The range that holds `slot`; nullptr when none does.
const v1::SlotRange* range_of(const SlotRanges& ranges, uint64_t slot);
void add_slot(SlotRanges& ranges, uint64_t slot);

}  // namespace muster::manager::store
