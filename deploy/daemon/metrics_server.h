#pragma once

#include <atomic>
#include <string>
#include <thread>

#include "base/log.h"
#include "base/metrics.h"
#include "base/status.h"
#include "base/unique_fd.h"

namespace muster::daemon {

// Serves GET /metrics in the text format of Prometheus, one connection at a time on a thread of its
// own: a scrape every few seconds is all it is for. A client has 5 s to ask.
class MetricsServer {
 public:
  MetricsServer(const Metrics& metrics, Log log) : metrics_(metrics), log_(std::move(log)) {}
  ~MetricsServer();

  // `address` is host:port or :port. INVALID_ARGUMENT when it does not parse, else why it cannot be
  // bound.
  Status start(const std::string& address);

 private:
  void serve();
  void answer(int fd);

  const Metrics& metrics_;
  Log log_;
  UniqueFd listener_;
  std::thread thread_;
  std::atomic<bool> stopping_{false};
};

}  // namespace muster::daemon
