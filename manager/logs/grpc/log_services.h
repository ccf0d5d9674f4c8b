#pragma once

#include <grpcpp/impl/codegen/service_type.h>

#include <functional>
#include <memory>

#include "manager/control/grpc/control_service.h"
#include "manager/logs/log_broker.h"

namespace muster::manager::logs {

// The broker in force; null when this node is not a manager. Asked from any thread.
using CurrentBroker = std::function<std::shared_ptr<LogBroker>()>;

// v1::Logs: streams of nodes with a certificate of this cluster.
std::unique_ptr<grpc::Service> make_logs_service(CurrentBroker current);

// Answers Control.ServiceLogs for the control service. A message of a node is read only when the
// broker has room for it, and one is sent to a client only when the one before is on its way:
// gRPC's flow control carries the slowness on to both sides.
control::ServiceLogsCall make_service_logs_call(CurrentBroker current);

}  // namespace muster::manager::logs
