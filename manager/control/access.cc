#include "manager/control/access.h"

#include <algorithm>

namespace muster::manager::control {
namespace {

using security::Principal;

// By method name, so that a reader finds a line.
constexpr AccessRule kTable[] = {
    {"muster.v1.Control.CreateNetwork", Access::kManager},
    {"muster.v1.Control.CreateService", Access::kManager},
    {"muster.v1.Control.GetCluster", Access::kManager},
    {"muster.v1.Control.GetInfo", Access::kLocalUser},
    {"muster.v1.Control.GetNetwork", Access::kManager},
    {"muster.v1.Control.GetNode", Access::kManager},
    {"muster.v1.Control.GetService", Access::kManager},
    {"muster.v1.Control.GetTask", Access::kManager},
    {"muster.v1.Control.InitSwarm", Access::kLocalUser},
    {"muster.v1.Control.LeaveSwarm", Access::kLocalUser},
    {"muster.v1.Control.ListNetworks", Access::kManager},
    {"muster.v1.Control.ListNodes", Access::kManager},
    {"muster.v1.Control.ListServices", Access::kManager},
    {"muster.v1.Control.ListTasks", Access::kManager},
    {"muster.v1.Control.RemoveNetwork", Access::kManager},
    {"muster.v1.Control.RemoveService", Access::kManager},
    {"muster.v1.Control.UpdateCluster", Access::kManager},
    {"muster.v1.Control.UpdateNode", Access::kManager},
    {"muster.v1.Control.UpdateService", Access::kManager},
    {"muster.v1.Control.Watch", Access::kManager},
    {"muster.v1.Dispatcher.Session", Access::kNode},
    {"muster.v1.Local.CreateVolume", Access::kLocalUser},
    {"muster.v1.Local.Exec", Access::kLocalUser},
    {"muster.v1.Local.ListContainers", Access::kLocalUser},
    {"muster.v1.Local.ListImages", Access::kLocalUser},
    {"muster.v1.Local.ListVolumes", Access::kLocalUser},
    {"muster.v1.Local.LoadImage", Access::kLocalUser},
    {"muster.v1.Local.Logs", Access::kLocalUser},
    {"muster.v1.Local.PruneImages", Access::kLocalUser},
    {"muster.v1.Local.PruneVolumes", Access::kLocalUser},
    {"muster.v1.Local.PullImage", Access::kLocalUser},
    {"muster.v1.Local.RemoveImage", Access::kLocalUser},
    {"muster.v1.Local.RemoveVolume", Access::kLocalUser},
    {"muster.v1.Local.Stats", Access::kLocalUser},
};

bool may(Access access, const Principal& caller) {
  const bool local = caller.kind == Principal::Kind::kLocalUser;
  const bool node = caller.kind == Principal::Kind::kNode;
  switch (access) {
    case Access::kAnyone: return true;
    case Access::kLocalUser: return local;
    case Access::kManager: return local || (node && caller.manager);
    case Access::kNode: return node;
  }
  return false;
}

std::string_view describe(Access access) {
  switch (access) {
    case Access::kAnyone: return "anyone";
    case Access::kLocalUser: return "a user of this node's socket";
    case Access::kManager: return "a manager or a user of this node's socket";
    case Access::kNode: return "a node of the swarm";
  }
  return "nobody";
}

}  // namespace

std::span<const AccessRule> access_table() {
  return kTable;
}

Status check_access(std::string_view method, const Principal& caller) {
  const auto* rule = std::find_if(std::begin(kTable), std::end(kTable),
                                  [&](const AccessRule& r) { return r.method == method; });
  if (rule == std::end(kTable)) {
    return permission_denied("{} is open to nobody", method);
  }
  if (may(rule->access, caller)) return ok_status();
  return permission_denied("{} is for {}", method, describe(rule->access));
}

}  // namespace muster::manager::control
