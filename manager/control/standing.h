#pragma once

#include "base/security/principal.h"
#include "base/status.h"
#include "manager/store/snapshot.h"

namespace muster::manager::control {

// What a certificate says may be true no longer: PERMISSION_DENIED with reason "node-removed",
// "role-changed" for a former manager's, "wrong-cluster". OK for local users, for workers, and for
// nodes that are not in the store yet. Clients are not listed: theirs is good until it ends.
Status check_standing(const store::Snapshot& view, const security::Principal& caller);

}  // namespace muster::manager::control
