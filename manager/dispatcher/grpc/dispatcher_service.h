#pragma once

#include <grpcpp/impl/codegen/service_type.h>

#include <functional>
#include <memory>

#include "base/executor.h"
#include "manager/dispatcher/dispatcher.h"

namespace muster::manager::dispatcher {

// The gRPC side of the dispatcher: streams of nodes with a certificate of this cluster, messages
// posted to the dispatcher's strand. `current` is asked on the strand for the dispatcher in force
// and may answer null (not a manager now); streams are then ended UNAVAILABLE.
std::unique_ptr<grpc::Service> make_dispatcher_service(Executor& strand,
                                                       std::function<Dispatcher*()> current);

}  // namespace muster::manager::dispatcher
