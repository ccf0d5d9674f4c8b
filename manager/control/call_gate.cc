#include "manager/control/call_gate.h"

#include <utility>

#include "manager/control/standing.h"

namespace muster::manager::control {
namespace {

constexpr std::string_view kSession = "muster.v1.Dispatcher.Session";

}  // namespace

security::CallGate make_call_gate(std::string cluster_id,
                                  std::function<store::Snapshot()> snapshot) {
  return [cluster_id = std::move(cluster_id), snapshot = std::move(snapshot)](
             std::string_view method, const security::Principal& caller) -> Status {
    MUSTER_TRY(security::check_access(method, caller));
    const security::Access access = security::access_rule(method)->access;
    if (access == security::Access::kAnyone) return ok_status();
    if (caller.cluster_id != cluster_id) {
      return permission_denied(
          "{} {} belongs to another swarm",
          caller.kind == security::Principal::Kind::kClient ? "client" : "node", caller.node_id);
    }
    if (method == kSession || method.starts_with("muster.v1.Raft.") ||
        method.starts_with("muster.v1.Membership.")) {
      return ok_status();
    }
    security::Principal judged = caller;
    // A former manager is a node all the same.
    if (access == security::Access::kNode) judged.manager = false;
    return check_standing(snapshot(), judged);
  };
}

}  // namespace muster::manager::control
