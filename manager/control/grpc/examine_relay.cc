#include "manager/control/grpc/examine_relay.h"

#include "manager/control/grpc/stream_relay.h"

namespace muster::manager::control {
namespace {

// Longer than an examination may take.
constexpr Duration kExamineLimit = 3min;

}  // namespace

grpc::ServerWriteReactor<v1::ExamineNetworksResponse>* make_examine_relay(
    const CallScope& scope, grpc::CallbackServerContext* context, const Caller& caller,
    const v1::ExamineNetworksRequest* request) {
  return make_stream_relay<v1::ExamineNetworksRequest, v1::ExamineNetworksResponse>(
      scope, context, caller, request,
      {&v1::Control::StubInterface::async_interface::ExamineNetworks, &ControlApi::may_examine,
       kExamineLimit});
}

grpc::ServerWriteReactor<v1::ExamineNetworksResponse>* make_examine_refusal(
    grpc::CallbackServerContext* context, const Status& why) {
  return make_stream_refusal<v1::ExamineNetworksResponse>(context, why);
}

}  // namespace muster::manager::control
