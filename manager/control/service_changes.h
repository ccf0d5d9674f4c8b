#pragma once

#include "manager/store/store.h"
#include "muster/v1/control.pb.h"

namespace muster::manager::control {

// The transactions behind CreateService and UpdateService: references, conflicts, revisions. Both
// leave tasks to the orchestrator.
Status create_service_in(store::Transaction& tx, const std::string& id, v1::ServiceSpec spec);
// ABORTED "update out of sequence" for a stale version, UNIMPLEMENTED for another mode,
// FAILED_PRECONDITION for a rollback without a previous spec. The revision grows only when tasks
// become outdated.
Status update_service_in(store::Transaction& tx, const v1::UpdateServiceRequest& request);

}  // namespace muster::manager::control
