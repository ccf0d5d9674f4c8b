#pragma once

#include <grpcpp/support/server_callback.h>

#include <functional>
#include <future>
#include <mutex>
#include <vector>

#include "agent/runtime/conmon_runtime.h"
#include "base/status.h"
#include "muster/v1/agent.pb.h"
#include "muster/v1/local.pb.h"

namespace muster::daemon {

// The Stats call of the local API: a sample of the containers asked for, once or every interval. A
// stream samples in a thread of its own; there are at most kStreamsMax.
class StatsCalls {
 public:
  static constexpr size_t kStreamsMax = 32;

  explicit StatsCalls(const agent::ConmonRuntime& runtime) : runtime_(runtime) {}
  ~StatsCalls();

  using Tasks = std::function<Result<std::vector<v1::LocalTask>>()>;
  grpc::ServerWriteReactor<v1::StatsResponse>* start(const v1::StatsRequest& request, Tasks tasks);
  static grpc::ServerWriteReactor<v1::StatsResponse>* refuse(const Status& why);

 private:
  const agent::ConmonRuntime& runtime_;
  std::mutex mutex_;
  std::vector<std::future<void>> streams_;
};

}  // namespace muster::daemon
