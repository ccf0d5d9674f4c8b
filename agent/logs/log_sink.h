#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/log_driver.h"
#include "base/status.h"

namespace muster::agent {

// Where forwarded lines go. One thread uses it; no call takes longer than kSendLimit.
class LogSink {
 public:
  static constexpr int kSendLimitMs = 2000;

  virtual ~LogSink() = default;
  // Sends one message whole. After a failure it may be tried again; the sink connects anew.
  virtual Status send(std::string_view message) = 0;
};

// The journal's socket; messages too large for a datagram go through a sealed memory file.
std::unique_ptr<LogSink> make_journal_sink(std::string socket_path);
// A syslog server. Over streams every message ends with a newline. What is too large for a datagram
// is cut.
std::unique_ptr<LogSink> make_syslog_sink(SyslogAddress address);

}  // namespace muster::agent
