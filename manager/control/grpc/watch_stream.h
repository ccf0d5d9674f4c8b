#pragma once

#include <grpcpp/support/server_callback.h>

#include <memory>

#include "base/executor.h"
#include "manager/control/control_api.h"

namespace muster::manager::control {

// One Watch call. Events wait in a queue of at most kWatchQueueMax; a client that reads more slowly
// is ended RESOURCE_EXHAUSTED and has to list and watch again.
inline constexpr size_t kWatchQueueMax = 10'000;

grpc::ServerWriteReactor<v1::WatchResponse>* stream_watch(Executor& strand,
                                                          std::shared_ptr<ControlApi> api,
                                                          const v1::WatchRequest& request);
grpc::ServerWriteReactor<v1::WatchResponse>* refuse_watch(grpc::Status status);

}  // namespace muster::manager::control
