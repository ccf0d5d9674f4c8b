#pragma once

#include <grpcpp/support/server_callback.h>

#include <functional>
#include <future>
#include <mutex>
#include <string>
#include <vector>

#include "base/status.h"
#include "muster/v1/local.pb.h"

namespace muster::daemon {

// One task whose log is read.
struct LogSource {
  std::string task_id;
  std::string bundle_dir;
  std::function<bool()> ended;  // whether its container will write no more
};

// The Logs call of the local API. Without `follow` all lines come in the order of time; following,
// each task's last lines come first, then new ones as they are written. Reading waits when the
// client does not take what was read.
//
// A following reader blocks in a thread of its own until the client goes away, so there are at most
// kReadersMax.
class LogCalls {
 public:
  static constexpr size_t kReadersMax = 256;

  ~LogCalls();

  grpc::ServerWriteReactor<v1::LogsResponse>* start(const v1::LogsRequest& request,
                                                    std::vector<LogSource> sources);
  static grpc::ServerWriteReactor<v1::LogsResponse>* refuse(const Status& why);

 private:
  bool spawn(std::function<void()> reader);

  std::mutex mutex_;
  std::vector<std::future<void>> readers_;
};

}  // namespace muster::daemon
