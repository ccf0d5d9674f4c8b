#pragma once

#include "manager/store/store.h"
#include "muster/v1/control.pb.h"

namespace muster::manager::control {

// The transactions behind CreateService and UpdateService: references, conflicts, revisions. Both
// leave tasks to the orchestrator.
Status create_service_in(store::Transaction& tx, const std::string& id, v1::ServiceSpec spec);
// ABORTED "update out of sequence" for a stale version, UNIMPLEMENTED for another mode,
// FAILED_PRECONDITION for a rollback without a previous spec. The revision changes only when tasks
// become outdated: that begins an update, which takes the place of one under way. A rollback swaps
// the spec with the previous one, and goes back to the revision that had. Of a job every change
// begins the next iteration, and none is rolled back (FAILED_PRECONDITION).
Status update_service_in(store::Transaction& tx, const v1::UpdateServiceRequest& request);

}  // namespace muster::manager::control
