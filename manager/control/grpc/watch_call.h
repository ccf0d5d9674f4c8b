#pragma once

#include <grpcpp/support/server_callback.h>

#include "base/security/principal.h"
#include "manager/control/control_api.h"

namespace muster::manager::control {

// Answers Watch; ends RESOURCE_EXHAUSTED when the client is `bytes_max` behind. gRPC deletes it.
grpc::ServerWriteReactor<v1::WatchResponse>* make_watch_call(ControlApi& api,
                                                             grpc::CallbackServerContext* context,
                                                             security::Principal caller,
                                                             const v1::WatchRequest* request,
                                                             size_t bytes_max);

}  // namespace muster::manager::control
