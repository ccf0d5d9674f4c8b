#pragma once

#include <grpcpp/impl/codegen/service_type.h>
#include <grpcpp/server_context.h>

#include <functional>
#include <memory>

#include "base/executor.h"
#include "base/security/principal.h"
#include "manager/control/control_api.h"

namespace muster::manager::control {

struct ControlServiceDeps {
  Executor& strand;  // the store's
  // The API in force; null while this node is no manager. Any thread.
  std::function<std::shared_ptr<ControlApi>()> current;
  NodeControl& node;
  // Who calls; established by the transport the service is registered with.
  std::function<security::Principal(const grpc::ServerContextBase&)> principal_of;
};

// The gRPC side of the control API: authorises by the access table, runs reads on gRPC's threads,
// posts writes to the strand, streams watches with a bounded queue.
std::unique_ptr<grpc::Service> make_control_service(ControlServiceDeps deps);

}  // namespace muster::manager::control
