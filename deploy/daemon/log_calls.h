#pragma once

#include <grpcpp/support/server_callback.h>

#include <functional>
#include <future>
#include <mutex>
#include <string>
#include <vector>

#include "agent/logs/log_reader.h"
#include "base/status.h"
#include "muster/v1/local.pb.h"

namespace muster::daemon {

// The Logs call of the local API: all lines in the order of time, as far as they are there; then,
// with `follow`, new ones as they are written. Reading waits when the client does not take what was
// read.
//
// A call has a thread of its own for as long as it lasts, so there are at most kReadersMax.
class LogCalls {
 public:
  static constexpr size_t kReadersMax = 64;
  // Ids of tasks of the call whose containers write no more. Asked about once a second while
  // following; from any thread.
  using EndedTasks = std::function<std::vector<std::string>()>;

  ~LogCalls();

  grpc::ServerWriteReactor<v1::LogsResponse>* start(const v1::LogsRequest& request,
                                                    std::vector<agent::LogSource> sources,
                                                    EndedTasks ended);
  static grpc::ServerWriteReactor<v1::LogsResponse>* refuse(const Status& why);

 private:
  bool spawn(std::function<void()> reader);

  std::mutex mutex_;
  std::vector<std::future<void>> readers_;
};

}  // namespace muster::daemon
