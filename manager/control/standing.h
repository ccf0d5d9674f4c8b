#pragma once

#include "base/security/principal.h"
#include "base/status.h"
#include "manager/store/snapshot.h"

namespace muster::manager::control {

// What a certificate says may be true no longer: PERMISSION_DENIED with reason "node-removed",
// "role-changed" for a former manager's, "wrong-cluster"; UNAVAILABLE with reason "node-unknown"
// for a node that is not in the store: a manager that is behind cannot tell one that has just
// joined from one that was removed long ago, and another manager may. OK for local users, for
// workers, and for anybody while there is no cluster in the store. Clients are not listed: theirs
// is good until it ends.
Status check_standing(const store::Snapshot& view, const security::Principal& caller);

}  // namespace muster::manager::control
