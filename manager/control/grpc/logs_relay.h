#pragma once

#include <grpcpp/support/server_callback.h>

#include "manager/control/grpc/routed_call.h"

namespace muster::manager::control {

// Answers ServiceLogs with the leader's lines, one message at a time: a client that does not read
// keeps the leader from sending. Without a leader it waits for one as every request does; before
// the first line it follows a change of leaders. gRPC deletes it.
grpc::ServerWriteReactor<v1::ServiceLogsResponse>* make_logs_relay(
    const CallScope& scope, grpc::CallbackServerContext* context, const Caller& caller,
    const v1::ServiceLogsRequest* request);

// Ends ServiceLogs.
grpc::ServerWriteReactor<v1::ServiceLogsResponse>* make_logs_refusal(
    grpc::CallbackServerContext* context, const Status& why);

}  // namespace muster::manager::control
