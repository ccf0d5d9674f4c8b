#pragma once

#include <grpcpp/support/server_callback.h>

#include "base/security/principal.h"
#include "manager/control/control_api.h"

namespace muster::manager::control {

// Answer BackupSwarm and RestoreSwarm, a piece at a time: nothing is made before the one before has
// left, nothing is read before the one before has been taken. gRPC deletes them.
grpc::ServerWriteReactor<v1::BackupSwarmResponse>* make_backup_call(
    ControlApi& api, grpc::CallbackServerContext* context, security::Principal caller,
    const v1::BackupSwarmRequest* request);
grpc::ServerReadReactor<v1::RestoreSwarmRequest>* make_restore_call(
    ControlApi& api, grpc::CallbackServerContext* context, security::Principal caller,
    v1::RestoreSwarmResponse* response);

}  // namespace muster::manager::control
