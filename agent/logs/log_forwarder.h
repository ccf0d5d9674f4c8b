#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "agent/logs/forward_format.h"
#include "agent/logs/log_cursor.h"
#include "agent/logs/log_sink.h"
#include "base/log.h"
#include "base/thread_executor.h"
#include "base/time.h"
#include "base/unique_fd.h"
#include "muster/v1/specs.pb.h"

namespace muster::agent {

// A container whose lines are passed on.
struct ForwardTarget {
  std::string task_id;
  std::string bundle_dir;
  v1::LogDriver driver;  // journald or syslog
  ForwardIdentity identity;
  bool ended = false;  // its container writes no more
};

// Passes the lines of containers on to the journal or to syslog servers, from the files their
// monitors write. How far it has come is kept beside each log (container.log.sent) after every
// batch, so that a successor of a killed process goes on where it ended: no line is lost, and at
// most one batch (kBatchLines) is sent twice.
//
// What cannot be sent waits in the files, and is tried again after 1 s to 30 s; only what rotation
// deletes meanwhile is lost, which is logged. One thread for all containers; a server that does
// not answer holds the others up for LogSink::kSendLimitMs per attempt at most.
class LogForwarder {
 public:
  static constexpr size_t kBatchLines = 64;
  static constexpr Duration kRetryMin = 1s;
  static constexpr Duration kRetryMax = 30s;

  LogForwarder(std::string journal_socket, Log log);
  ~LogForwarder();
  LogForwarder(const LogForwarder&) = delete;
  LogForwarder& operator=(const LogForwarder&) = delete;

  // Everything there is to forward; whatever is not named any more is let go of. Any thread.
  void set_targets(std::vector<ForwardTarget> targets);

  static std::string position_file(const std::string& bundle_dir);

 private:
  struct Destination {
    std::unique_ptr<LogSink> sink;
    Duration retry = kRetryMin;
    TimePoint blocked_until;
  };
  struct Forward {
    ForwardTarget target;
    LogCursor cursor;
    Destination* destination = nullptr;
    std::vector<LogLine> batch;  // read and not yet sent
    size_t sent = 0;             // of batch
    uint64_t gaps = 0;           // of the cursor, as last reported
    bool more = true;            // worth a look
    int watch = -1;
  };

  void run();
  void take_targets();
  std::unique_ptr<Forward> open(ForwardTarget target);
  Destination& destination_of(const v1::LogDriver& driver);
  // One batch; true when there may be more at once.
  bool forward(Forward& forward);
  bool send(Forward& forward);
  std::string message_of(const Forward& forward, const LogLine& line) const;
  void save(const Forward& forward);
  void wait();

  const std::string journal_socket_;
  Log log_;
  const SystemClock clock_;
  UniqueFd inotify_;
  UniqueFd event_;

  std::mutex mutex_;
  std::vector<ForwardTarget> wanted_;
  bool changed_ = false;
  bool stopping_ = false;

  std::map<std::string, std::unique_ptr<Forward>> forwards_;  // the thread's alone
  std::map<std::string, Destination> destinations_;
  std::thread thread_;
};

}  // namespace muster::agent
