#include "manager/control/call_gate.h"

#include <utility>

#include "manager/control/standing.h"

namespace muster::manager::control {

security::CallGate make_call_gate(std::string cluster_id,
                                  std::function<store::Snapshot()> snapshot) {
  return [cluster_id = std::move(cluster_id), snapshot = std::move(snapshot)](
             std::string_view method, const security::Principal& caller) -> Status {
    MUSTER_TRY(security::check_access(method, caller));
    if (security::access_rule(method)->access == security::Access::kAnyone) return ok_status();
    if (caller.cluster_id != cluster_id) {
      return permission_denied("node {} belongs to another swarm", caller.node_id);
    }
    security::Principal judged = caller;
    if (method.starts_with("muster.v1.Raft.")) judged.manager = false;
    return check_standing(snapshot(), judged);
  };
}

}  // namespace muster::manager::control
