#include "manager/control/standing.h"

#include <fmt/format.h>

#include "manager/ca/admission.h"
#include "manager/mutant.h"

namespace muster::manager::control {

Status check_standing(const store::Snapshot& view, const security::Principal& caller) {
  using Kind = security::Principal::Kind;
  const auto cluster = view.cluster();
  if (caller.kind == Kind::kClient) {
    if (cluster == nullptr || caller.cluster_id == cluster->id()) return ok_status();
    return Status(StatusCode::kPermissionDenied,
                  fmt::format("client {} belongs to another swarm", caller.node_id),
                  "wrong-cluster");
  }
  if (caller.kind != Kind::kNode) return ok_status();
  if (fault(ManagerMutant::kRemovedStands)) return ok_status();
  if (cluster != nullptr) {
    if (ca::is_removed(*cluster, caller.node_id)) {
      return Status(StatusCode::kPermissionDenied,
                    fmt::format("node {} was removed from the swarm", caller.node_id),
                    "node-removed");
    }
    if (!caller.cluster_id.empty() && caller.cluster_id != cluster->id()) {
      return Status(StatusCode::kPermissionDenied,
                    fmt::format("node {} belongs to another swarm", caller.node_id),
                    "wrong-cluster");
    }
  }
  const auto node = view.get<v1::Node>(caller.node_id);
  // That it was removed is remembered for as long as any certificate lasts that others may have
  // given it. A manager has the root's key: one that was switched off for longer gives itself
  // another one (ca::sign_own) by a copy of the state in which it still is one.
  if (node == nullptr && cluster != nullptr) {
    return Status(StatusCode::kUnavailable,
                  fmt::format("this manager knows no node {}: it was removed from the swarm, or it "
                              "joined a moment ago",
                              caller.node_id),
                  "node-unknown");
  }
  // One that is on its way to be a worker is a manager until it is out of the group.
  if (caller.manager && node != nullptr && node->role() != v1::NodeSpec::MANAGER &&
      !fault(ManagerMutant::kFormerManagerStands)) {
    return Status(StatusCode::kPermissionDenied,
                  fmt::format("node {} is no manager any more: its certificate is to be renewed",
                              caller.node_id),
                  "role-changed");
  }
  return ok_status();
}

}  // namespace muster::manager::control
