#pragma once

#include <grpcpp/impl/codegen/service_type.h>

#include <functional>
#include <memory>
#include <string>

#include "base/executor.h"
#include "base/security/principal.h"
#include "manager/members/reachability.h"

namespace grpc {
class CallbackServerContext;
class Channel;
class ServerContextBase;
template <class Response>
class ServerWriteReactor;
}  // namespace grpc
namespace muster::v1 {
class ExamineNetworksRequest;
class ExamineNetworksResponse;
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

// The same for ExamineNetworks.
using ExamineNetworksCall = std::function<grpc::ServerWriteReactor<v1::ExamineNetworksResponse>*(
    grpc::CallbackServerContext*, const v1::ExamineNetworksRequest&)>;

// How a manager that does not lead gets to the one that does.
struct LeaderRoute {
  // The channel to the manager at an address; asked for every call, from any thread, so it may be
  // kept and renewed with this node's certificate. It has to let answers of any size through.
  std::function<std::shared_ptr<grpc::Channel>(const std::string& address)> channel;
  // Counts the managers that answer when nobody leads; on the API's strand. Outlives the service.
  // Without it only this node counts.
  members::Reachability* reachability = nullptr;
  // How long a request waits for a leader; with the counting an answer comes within 5 s.
  Duration patience = 3500ms;
};

struct ControlServiceOptions {
  // Answers DEADLINE_EXCEEDED then, whatever the client's own deadline; the change may still
  // happen.
  Duration request_limit = 60s;
  // A watcher further behind than this many bytes is ended RESOURCE_EXHAUSTED.
  size_t watch_bytes_max = 64 << 20;
  ServiceLogsCall service_logs;
  ExamineNetworksCall examine_networks;
  LeaderRoute leader;
};

// The control API over gRPC's callback interface. Calls are posted to the API's strand; a Status
// becomes the grpc::Status of the same code, its reason the trailing metadata "muster-reason". The
// API outlives the server the service is registered with.
//
// A manager that does not lead passes on what only the leader can do: every change, the unlock key,
// the state of nodes, logs, examinations. The caller's identity and deadline go along; a request
// makes one hop. What the leader has changed is in this manager's own store before the answer
// leaves, so that the client's next read finds it. Everything else is answered from this manager's
// store, as long as a leader is known: one that has none says so rather than something old.
std::unique_ptr<grpc::Service> make_control_service(ControlApi& api, PrincipalOf principal_of,
                                                    ControlServiceOptions options = {});

}  // namespace muster::manager::control
