#pragma once

#include <grpcpp/support/server_callback.h>

#include "manager/control/grpc/routed_call.h"

namespace muster::manager::control {

// The same as logs_relay.h, for ExamineNetworks.
grpc::ServerWriteReactor<v1::ExamineNetworksResponse>* make_examine_relay(
    const CallScope& scope, grpc::CallbackServerContext* context, const Caller& caller,
    const v1::ExamineNetworksRequest* request);
grpc::ServerWriteReactor<v1::ExamineNetworksResponse>* make_examine_refusal(
    grpc::CallbackServerContext* context, const Status& why);

}  // namespace muster::manager::control
