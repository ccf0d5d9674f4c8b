#pragma once

#include <grpcpp/support/server_callback.h>

#include <functional>
#include <string>

#include "manager/control/grpc/routed_call.h"

namespace muster::manager::control {

// Answers ServiceLogs with the leader's lines, one message at a time: a client that does not read
// keeps the leader from sending. gRPC deletes it. Null when the leader cannot be called.
grpc::ServerWriteReactor<v1::ServiceLogsResponse>* make_logs_relay(
    const CallScope& scope, const std::string& address, grpc::CallbackServerContext* context,
    const security::Principal& caller, const v1::ServiceLogsRequest* request);

// Ends ServiceLogs with the status that `why` hands over, now or later.
grpc::ServerWriteReactor<v1::ServiceLogsResponse>* make_logs_refusal(
    grpc::CallbackServerContext* context,
    const std::function<void(UniqueFunction<void(Status)>)>& why);

}  // namespace muster::manager::control
