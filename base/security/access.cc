#include "base/security/access.h"

#include <algorithm>

namespace muster::security {

// Sorted by name; a test compares it with the services' descriptors.
const std::vector<AccessRule>& access_table() {
  static const std::vector<AccessRule> kTable = {
      {"muster.v1.Ca.GetRootCertificate", Access::kAnyone},
      {"muster.v1.Ca.IssueCertificate", Access::kAnyone},
      {"muster.v1.Control.BackupSwarm", Access::kGrant},
      {"muster.v1.Control.ConnectNetwork", Access::kManager},
      {"muster.v1.Control.CreateConfig", Access::kManager},
      {"muster.v1.Control.CreateNetwork", Access::kManager},
      {"muster.v1.Control.CreateSecret", Access::kManager},
      {"muster.v1.Control.CreateService", Access::kManager},
      {"muster.v1.Control.DisconnectNetwork", Access::kManager},
      {"muster.v1.Control.ExamineNetworks", Access::kManager},
      {"muster.v1.Control.ExplainService", Access::kManager},
      {"muster.v1.Control.GetCluster", Access::kManager},
      {"muster.v1.Control.GetConfig", Access::kManager},
      {"muster.v1.Control.GetInfo", Access::kManager},
      {"muster.v1.Control.GetNetwork", Access::kManager},
      {"muster.v1.Control.GetNode", Access::kManager},
      {"muster.v1.Control.GetSecret", Access::kManager},
      {"muster.v1.Control.GetService", Access::kManager},
      {"muster.v1.Control.GetTask", Access::kManager},
      {"muster.v1.Control.GetUnlockKey", Access::kManager},
      {"muster.v1.Control.InitSwarm", Access::kOperator},
      {"muster.v1.Control.IssueClientCertificate", Access::kGrant},
      {"muster.v1.Control.JoinSwarm", Access::kOperator},
      {"muster.v1.Control.LeaveSwarm", Access::kOperator},
      {"muster.v1.Control.ListConfigs", Access::kManager},
      {"muster.v1.Control.ListNetworks", Access::kManager},
      {"muster.v1.Control.ListNodes", Access::kManager},
      {"muster.v1.Control.ListSecrets", Access::kManager},
      {"muster.v1.Control.ListServices", Access::kManager},
      {"muster.v1.Control.ListTasks", Access::kManager},
      {"muster.v1.Control.RemoveConfig", Access::kManager},
      {"muster.v1.Control.RemoveNetwork", Access::kManager},
      {"muster.v1.Control.RemoveNode", Access::kManager},
      {"muster.v1.Control.RemoveSecret", Access::kManager},
      {"muster.v1.Control.RemoveService", Access::kManager},
      {"muster.v1.Control.RestoreSwarm", Access::kOperator},
      {"muster.v1.Control.ServiceLogs", Access::kManager},
      {"muster.v1.Control.UnlockSwarm", Access::kOperator},
      {"muster.v1.Control.UpdateCluster", Access::kManager},
      {"muster.v1.Control.UpdateConfig", Access::kManager},
      {"muster.v1.Control.UpdateNetwork", Access::kManager},
      {"muster.v1.Control.UpdateNode", Access::kManager},
      {"muster.v1.Control.UpdateSecret", Access::kManager},
      {"muster.v1.Control.UpdateService", Access::kManager},
      {"muster.v1.Control.Watch", Access::kManager},
      {"muster.v1.Dispatcher.Session", Access::kNode},
      {"muster.v1.Local.CreateVolume", Access::kOperator},
      {"muster.v1.Local.Exec", Access::kOperator},
      {"muster.v1.Local.ListContainers", Access::kOperator},
      {"muster.v1.Local.ListImages", Access::kOperator},
      {"muster.v1.Local.ListVolumes", Access::kOperator},
      {"muster.v1.Local.LoadImage", Access::kOperator},
      {"muster.v1.Local.Logs", Access::kOperator},
      {"muster.v1.Local.PruneImages", Access::kOperator},
      {"muster.v1.Local.PruneVolumes", Access::kOperator},
      {"muster.v1.Local.PullImage", Access::kOperator},
      {"muster.v1.Local.RemoveImage", Access::kOperator},
      {"muster.v1.Local.RemoveVolume", Access::kOperator},
      {"muster.v1.Local.Stats", Access::kOperator},
      {"muster.v1.Logs.Publish", Access::kNode},
      {"muster.v1.Membership.Join", Access::kPeer},
      {"muster.v1.Membership.Leave", Access::kPeer},
      {"muster.v1.Raft.Lane", Access::kPeer},
      {"muster.v1.Raft.Snapshot", Access::kPeer},
  };
  return kTable;
}

const AccessRule* access_rule(std::string_view method) {
  const auto& table = access_table();
  const auto rule =
      std::lower_bound(table.begin(), table.end(), method,
                       [](const AccessRule& r, std::string_view name) { return r.method < name; });
  return rule == table.end() || rule->method != method ? nullptr : &*rule;
}

Status check_access(std::string_view method, const Principal& principal) {
  using Kind = Principal::Kind;
  const AccessRule* rule = access_rule(method);
  if (rule == nullptr) return permission_denied("{} is not open to anyone", method);
  if (rule->access == Access::kAnyone) return ok_status();
  if (principal.kind == Kind::kNone) {
    return Status(StatusCode::kUnauthenticated,
                  fmt::format("{} needs a node certificate or the local socket", method));
  }
  const bool local = principal.kind == Kind::kLocalUser;
  const bool node = principal.kind == Kind::kNode;
  const bool client = principal.kind == Kind::kClient;
  bool allowed = false;
  switch (rule->access) {
    case Access::kAnyone: allowed = true; break;
    case Access::kOperator: allowed = local; break;
    case Access::kManager: allowed = local || client || (node && principal.manager); break;
    case Access::kGrant: allowed = local || (node && principal.manager); break;
    case Access::kPeer: allowed = node && principal.manager; break;
    case Access::kNode: allowed = node; break;
  }
  if (allowed) return ok_status();
  if (local) return permission_denied("{} is for nodes, not for users", method);
  if (client && rule->access == Access::kOperator) {
    return permission_denied(
        "this is for users on the host itself: it is done there, through musterd's own socket, not "
        "with a client's certificate");
  }
  if (client) {
    return permission_denied(
        "this is not open to client {}: it is done on a manager's own host, without --host",
        principal.node_id);
  }
  return permission_denied("{} is not open to node {}", method, principal.node_id);
}

std::string method_of_path(std::string_view path) {
  if (!path.starts_with('/')) return {};
  std::string method(path.substr(1));
  const size_t slash = method.find('/');
  if (slash == 0 || slash == std::string::npos || slash + 1 == method.size() ||
      method.find('/', slash + 1) != std::string::npos) {
    return {};
  }
  method[slash] = '.';
  return method;
}

}  // namespace muster::security
