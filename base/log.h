#pragma once

#include <spdlog/spdlog.h>

#include <memory>
#include <string_view>

#include "base/status.h"

namespace muster {

// A named logger, handed through constructors. `Log` is cheap to copy.
//   log->info("task {} is {}", id, state);
using Log = std::shared_ptr<spdlog::logger>;

enum class LogFormat { kText, kJson };

// A logger that writes to standard error; `level` is one of debug, info, warn, error. Text lines
// are "time level component message", JSON lines have the keys time, level, component, msg.
Result<Log> make_log(std::string_view component, std::string_view level, LogFormat format);
// The same sink and level under another component name.
Log child_log(const Log& parent, std::string_view component);
// Drops everything; for tests.
Log null_log();

}  // namespace muster
