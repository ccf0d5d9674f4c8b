#pragma once

#include <functional>
#include <string>

#include "base/security/access.h"
#include "manager/store/snapshot.h"

namespace muster::manager::control {

// What stands before every call to a manager's TLS server: the access table, the swarm, and
// whether the caller's certificate still says what is true (standing.h).
// `snapshot` is asked from any thread; a manager whose state is still empty goes by certificates
// alone.
//
// The rest is told by those it concerns: a node's session says what became of the node, so that its
// agent knows what to do; the Raft transport judges by its members' list, since one that is behind
// must not keep out the leader that brings it up to date, and lets nobody in whose node was removed
// but tells it so, for which it needs the call (raft/transport/admission.h); who joins the group or
// leaves it is judged by the leader alone, and others say where that is (members/membership.h); the
// CA looks at its callers itself.
security::CallGate make_call_gate(std::string cluster_id,
                                  std::function<store::Snapshot()> snapshot);

}  // namespace muster::manager::control
