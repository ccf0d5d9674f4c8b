#pragma once

#include <grpcpp/impl/codegen/service_type.h>

#include <functional>
#include <memory>

#include "base/executor.h"
#include "base/security/principal.h"

namespace grpc {
class CallbackServerContext;
class ServerContextBase;
template <class Response>
class ServerWriteReactor;
}  // namespace grpc
namespace muster::v1 {
class ServiceLogsRequest;
class ServiceLogsResponse;
}  // namespace muster::v1

namespace muster::manager::control {

class ControlApi;

// Who is at the other end of a call; given by the daemon, which knows its listeners.
using PrincipalOf = std::function<security::Principal(const grpc::ServerContextBase&)>;

// Answers ServiceLogs, whose lines come from another room; null when nobody can.
using ServiceLogsCall = std::function<grpc::ServerWriteReactor<v1::ServiceLogsResponse>*(
    grpc::CallbackServerContext*, const v1::ServiceLogsRequest&)>;

struct ControlServiceOptions {
  // Answers DEADLINE_EXCEEDED then, whatever the client's own deadline; the change may still
  // happen.
  Duration request_limit = 60s;
  // A watcher further behind than this many bytes is ended RESOURCE_EXHAUSTED.
  size_t watch_bytes_max = 64 << 20;
  ServiceLogsCall service_logs;
};

// The control API over gRPC's callback interface. Calls are posted to the API's strand; a Status
// becomes the grpc::Status of the same code, its reason the trailing metadata "muster-reason". The
// API outlives the server the service is registered with.
std::unique_ptr<grpc::Service> make_control_service(ControlApi& api, PrincipalOf principal_of,
                                                    ControlServiceOptions options = {});

}  // namespace muster::manager::control
