#pragma once

#include <functional>
#include <string>

#include "base/security/access.h"
#include "manager/store/snapshot.h"

namespace muster::manager::control {

// What stands before every call to a manager's TLS server: the access table, the swarm, and whether
// the caller's certificate still says what is true (standing.h). `snapshot` is asked from any
// thread; a manager whose state is still empty goes by certificates alone.
//
// Exempt are what is open to anyone, which looks at its callers itself, and, of the roles, Raft's
// own calls: the group knows its members, and a member that is behind must not keep out the leader
// that would bring it up to date.
security::CallGate make_call_gate(std::string cluster_id,
                                  std::function<store::Snapshot()> snapshot);

}  // namespace muster::manager::control
