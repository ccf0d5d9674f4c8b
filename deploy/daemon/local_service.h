#pragma once

#include <grpcpp/impl/codegen/service_type.h>
#include <grpcpp/server_context.h>

#include <filesystem>
#include <functional>
#include <memory>

#include "base/security/principal.h"
#include "deploy/daemon/agent_role.h"
#include "deploy/daemon/node_parts.h"
#include "deploy/daemon/work_pool.h"

namespace muster::daemon {

struct LocalServiceDeps {
  WorkPool& pool;  // for calls that block
  NodeParts& parts;
  std::filesystem::path data_dir;  // archives are kept in <data-dir>/tmp while they are loaded
  std::function<std::shared_ptr<AgentRole>()> agent;  // null outside a swarm; any thread
  std::function<std::string()> role_error;  // why a member of a swarm has no agent; any thread
  std::function<security::Principal(const grpc::ServerContextBase&)> principal_of;
};

// The node's own API over gRPC: containers, images, volumes of this host. Every call that blocks
// runs on the pool.
std::unique_ptr<grpc::Service> make_local_service(LocalServiceDeps deps);

}  // namespace muster::daemon
