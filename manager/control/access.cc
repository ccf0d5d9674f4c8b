#include "manager/control/access.h"

#include <algorithm>

namespace muster::manager::control {

const std::vector<AccessRule>& access_table() {
  static const std::vector<AccessRule> kTable = {
      {"muster.v1.Control.InitSwarm", Access::kOperator},
      {"muster.v1.Control.LeaveSwarm", Access::kOperator},
      {"muster.v1.Control.GetCluster", Access::kManager},
      {"muster.v1.Control.UpdateCluster", Access::kManager},
      {"muster.v1.Control.GetInfo", Access::kManager},
      {"muster.v1.Control.CreateService", Access::kManager},
      {"muster.v1.Control.UpdateService", Access::kManager},
      {"muster.v1.Control.RemoveService", Access::kManager},
      {"muster.v1.Control.GetService", Access::kManager},
      {"muster.v1.Control.ListServices", Access::kManager},
      {"muster.v1.Control.ExplainService", Access::kManager},
      {"muster.v1.Control.ServiceLogs", Access::kManager},
      {"muster.v1.Control.GetTask", Access::kManager},
      {"muster.v1.Control.ListTasks", Access::kManager},
      {"muster.v1.Control.GetNode", Access::kManager},
      {"muster.v1.Control.ListNodes", Access::kManager},
      {"muster.v1.Control.UpdateNode", Access::kManager},
      {"muster.v1.Control.CreateNetwork", Access::kManager},
      {"muster.v1.Control.RemoveNetwork", Access::kManager},
      {"muster.v1.Control.GetNetwork", Access::kManager},
      {"muster.v1.Control.ListNetworks", Access::kManager},
      {"muster.v1.Control.CreateSecret", Access::kManager},
      {"muster.v1.Control.UpdateSecret", Access::kManager},
      {"muster.v1.Control.RemoveSecret", Access::kManager},
      {"muster.v1.Control.GetSecret", Access::kManager},
      {"muster.v1.Control.ListSecrets", Access::kManager},
      {"muster.v1.Control.CreateConfig", Access::kManager},
      {"muster.v1.Control.UpdateConfig", Access::kManager},
      {"muster.v1.Control.RemoveConfig", Access::kManager},
      {"muster.v1.Control.GetConfig", Access::kManager},
      {"muster.v1.Control.ListConfigs", Access::kManager},
      {"muster.v1.Control.Watch", Access::kManager},
      {"muster.v1.Dispatcher.Session", Access::kNode},
      {"muster.v1.Logs.Publish", Access::kNode},
      {"muster.v1.Local.ListContainers", Access::kOperator},
      {"muster.v1.Local.Logs", Access::kOperator},
      {"muster.v1.Local.Exec", Access::kOperator},
      {"muster.v1.Local.Stats", Access::kOperator},
      {"muster.v1.Local.ListImages", Access::kOperator},
      {"muster.v1.Local.PullImage", Access::kOperator},
      {"muster.v1.Local.LoadImage", Access::kOperator},
      {"muster.v1.Local.RemoveImage", Access::kOperator},
      {"muster.v1.Local.PruneImages", Access::kOperator},
      {"muster.v1.Local.ListVolumes", Access::kOperator},
      {"muster.v1.Local.CreateVolume", Access::kOperator},
      {"muster.v1.Local.RemoveVolume", Access::kOperator},
      {"muster.v1.Local.PruneVolumes", Access::kOperator},
  };
  return kTable;
}

Status check_access(std::string_view method, const security::Principal& principal) {
  using Kind = security::Principal::Kind;
  const auto& table = access_table();
  const auto rule = std::find_if(table.begin(), table.end(),
                                 [&](const AccessRule& r) { return r.method == method; });
  if (rule == table.end()) return permission_denied("{} is not open to anyone", method);
  if (principal.kind == Kind::kNone) {
    return Status(StatusCode::kUnauthenticated,
                  fmt::format("{} needs a node certificate or the local socket", method));
  }
  const bool local = principal.kind == Kind::kLocalUser;
  bool allowed = false;
  switch (rule->access) {
    case Access::kOperator: allowed = local; break;
    case Access::kManager: allowed = local || principal.manager; break;
    case Access::kNode: allowed = principal.kind == Kind::kNode; break;
  }
  if (allowed) return ok_status();
  return local ? permission_denied("{} is for nodes, not for users", method)
               : permission_denied("{} is not open to node {}", method, principal.node_id);
}

}  // namespace muster::manager::control
