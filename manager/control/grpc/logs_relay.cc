#include "manager/control/grpc/logs_relay.h"

#include "manager/control/grpc/stream_relay.h"

namespace muster::manager::control {
namespace {

// A subscription may be followed for as long as the client likes.
constexpr Duration kFollowLimit = 24h * 365;

}  // namespace

grpc::ServerWriteReactor<v1::ServiceLogsResponse>* make_logs_relay(
    const CallScope& scope, grpc::CallbackServerContext* context, const Caller& caller,
    const v1::ServiceLogsRequest* request) {
  return make_stream_relay<v1::ServiceLogsRequest, v1::ServiceLogsResponse>(
      scope, context, caller, request,
      {&v1::Control::StubInterface::async_interface::ServiceLogs, &ControlApi::may_read_logs,
       kFollowLimit});
}

grpc::ServerWriteReactor<v1::ServiceLogsResponse>* make_logs_refusal(
    grpc::CallbackServerContext* context, const Status& why) {
  return make_stream_refusal<v1::ServiceLogsResponse>(context, why);
}

}  // namespace muster::manager::control
