#include "agent/worker/exec_health_probe.h"

#include <fmt/format.h>

#include <chrono>
#include <optional>
#include <string_view>
#include <utility>

namespace muster::agent {
namespace {

// Starting a process in a container takes the runtime's time, on a busy host much of it. That is
// not the command's and does not count towards its time-out; but it does not take forever, either.
constexpr Duration kStartMax = 30s;
constexpr Duration kStartPoll = 5ms;

HealthResult failed(std::string why, std::string output = "") {
  return {-1, std::move(output), std::move(why), false};
}

}  // namespace

struct ExecHealthProbe::Run {
  std::optional<Result<int>> ended;
};

void ExecHealthProbe::stop() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopped_ = true;
  }
  changed_.notify_all();
}

// Waits for the command to run and then for its end; what went wrong, in words, or empty.
std::string ExecHealthProbe::await_end(Run& run, const ExecSession& session, Duration timeout) {
  std::unique_lock<std::mutex> lock(mutex_);
  const auto over = [&] { return stopped_ || run.ended.has_value(); };
  const auto start_limit = std::chrono::steady_clock::now() + kStartMax;
  while (!over() && !session.has_begun()) {
    if (std::chrono::steady_clock::now() >= start_limit) {
      return "health check could not be started within " + format_duration(kStartMax);
    }
    changed_.wait_for(lock, kStartPoll, over);
  }
  if (changed_.wait_for(lock, timeout, over)) return "";
  return fmt::format("health check exceeded timeout ({})", format_duration(timeout));
}

HealthResult ExecHealthProbe::run(const std::string& container_id, const std::string& bundle_dir,
                                  const std::vector<std::string>& command, Duration timeout) {
  ExecRequest request;
  request.container_id = container_id;
  request.bundle_dir = bundle_dir;
  request.command = command;
  request.kill_tree = true;
  Run run;
  std::string output;
  ExecEvents events;
  // Called on the session's thread only, which is joined before `output` is read.
  const auto keep = [&output](std::string_view data) {
    output.append(data);
    if (output.size() > 2 * HealthMonitor::kOutputBytesMax) {
      output.erase(0, output.size() - HealthMonitor::kOutputBytesMax);
    }
  };
  events.out = keep;
  events.err = keep;
  events.done = [this, &run](Result<int> code) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      run.ended = std::move(code);
    }
    changed_.notify_all();
  };
  auto session = ExecSession::start(runtime_, request, std::move(events));
  if (!session) {
    HealthResult out = failed("health check could not be run: " + session.error().message());
    out.gone = session.error().code() == StatusCode::kNotFound;
    return out;
  }
  const std::string trouble = await_end(run, **session, timeout);
  session->reset();
  HealthResult out;
  if (!trouble.empty()) {
    out = failed(trouble, std::move(output));
  } else if (!*run.ended) {
    out = failed("health check could not be run: " + run.ended->error().message());
  } else {
    out = {**run.ended, std::move(output), "", false};
  }
  // A command that went down with its container has not found anything, nor one that was ended.
  out.gone = out.exit_code != 0 && !runtime_.is_alive(container_id);
  const std::lock_guard<std::mutex> lock(mutex_);
  out.gone = out.gone || stopped_;
  return out;
}

}  // namespace muster::agent
