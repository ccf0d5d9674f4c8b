#include "manager/control/access.h"

#include <algorithm>

namespace muster::manager::control {

const std::vector<AccessRule>& access_table() {
  static const std::vector<AccessRule> kTable = {
      {"Control/InitSwarm", Access::kOperator},    {"Control/LeaveSwarm", Access::kOperator},
      {"Control/GetCluster", Access::kManager},    {"Control/UpdateCluster", Access::kManager},
      {"Control/GetInfo", Access::kManager},       {"Control/CreateService", Access::kManager},
      {"Control/UpdateService", Access::kManager}, {"Control/RemoveService", Access::kManager},
      {"Control/GetService", Access::kManager},    {"Control/ListServices", Access::kManager},
      {"Control/GetTask", Access::kManager},       {"Control/ListTasks", Access::kManager},
      {"Control/GetNode", Access::kManager},       {"Control/ListNodes", Access::kManager},
      {"Control/UpdateNode", Access::kManager},    {"Control/CreateNetwork", Access::kManager},
      {"Control/RemoveNetwork", Access::kManager}, {"Control/GetNetwork", Access::kManager},
      {"Control/ListNetworks", Access::kManager},  {"Control/Watch", Access::kManager},
      {"Dispatcher/Session", Access::kNode},       {"Local/ListContainers", Access::kOperator},
      {"Local/Logs", Access::kOperator},           {"Local/Exec", Access::kOperator},
      {"Local/Stats", Access::kOperator},          {"Local/ListImages", Access::kOperator},
      {"Local/PullImage", Access::kOperator},      {"Local/LoadImage", Access::kOperator},
      {"Local/RemoveImage", Access::kOperator},    {"Local/PruneImages", Access::kOperator},
      {"Local/ListVolumes", Access::kOperator},    {"Local/CreateVolume", Access::kOperator},
      {"Local/RemoveVolume", Access::kOperator},   {"Local/PruneVolumes", Access::kOperator},
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
