#include "deploy/daemon/grpc_log.h"

#include <grpc/support/log.h>

#include <chrono>
#include <string_view>
#include <utility>

namespace muster::daemon {
namespace {

constexpr int64_t kLineEveryNs = 60'000'000'000;

// gRPC's function has no context; what it needs lives as long as the process, whose last threads
// are gRPC's.
struct Taken {
  Log log;
  ComplaintCount errors;
};
Taken& taken() {
  static Taken* const it = new Taken();
  return *it;
}

void write(gpr_log_func_args* args) {
  const Log& log = taken().log;
  std::string_view file = args->file;
  file.remove_prefix(file.rfind('/') + 1);
  log->debug("{} ({}:{})", args->message, file, args->line);
  if (args->severity != GPR_LOG_SEVERITY_ERROR) return;
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  const auto count = taken().errors.add(std::chrono::nanoseconds(now).count());
  if (!count) return;
  log->info("{} connection(s) of others failed in gRPC, the last: {} (each is logged at debug)",
            *count, args->message);
}

}  // namespace

std::optional<uint64_t> ComplaintCount::add(int64_t now_ns) {
  std::lock_guard lock(mutex_);
  ++count_;
  if (said_at_ns_ && now_ns - *said_at_ns_ < kLineEveryNs) return std::nullopt;
  said_at_ns_ = now_ns;
  return std::exchange(count_, 0);
}

void take_grpc_log(const Log& log) {
  taken().log = log;
  gpr_set_log_function(write);
}

}  // namespace muster::daemon
