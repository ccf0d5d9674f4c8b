#pragma once

#include "manager/control/image_pinning.h"
#include "manager/store/store.h"
#include "muster/v1/control.pb.h"

namespace muster::manager::control {

// The transactions behind CreateService and UpdateService: references, conflicts, revisions. Both
// leave tasks to the orchestrator.
Status create_service_in(store::Transaction& tx, const std::string& id, v1::ServiceSpec spec);
// What create_service_in() refuses, before anything slow is done for the spec.
Status check_new_service(const store::Snapshot& state, v1::ServiceSpec spec);
// ABORTED "update out of sequence" for a stale version, UNIMPLEMENTED for another mode,
// FAILED_PRECONDITION for a rollback without a previous spec. The revision changes only when tasks
// become outdated: that begins an update, which takes the place of one under way. A rollback swaps
// the spec with the previous one, and goes back to the revision that had. A spec that is the
// service's already changes nothing, its version neither. Of a job every change begins the next
// iteration, and none is rolled back (FAILED_PRECONDITION). `image` is the registry's answer if it
// was asked.
Status update_service_in(store::Transaction& tx, const v1::UpdateServiceRequest& request,
                         const std::optional<ImageAnswer>& image = std::nullopt);
// The credentials the service will have: the request's own, else those it says to take.
Result<std::string> credentials_for(const v1::UpdateServiceRequest& request,
                                    const v1::Service& known);

}  // namespace muster::manager::control
