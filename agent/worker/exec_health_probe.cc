#include "agent/worker/exec_health_probe.h"

#include <future>

#include "agent/runtime/exec.h"

namespace muster::agent {

Result<HealthResult> ExecHealthProbe::run(const std::string& container_id,
                                          const std::string& bundle_dir,
                                          const std::vector<std::string>& command,
                                          Duration timeout) {
  constexpr size_t kOutputMax = 4096;
  ExecRequest request;
  request.container_id = container_id;
  request.bundle_dir = bundle_dir;
  request.command = command;
  std::string output;
  std::promise<Result<int>> promise;
  std::future<Result<int>> ended = promise.get_future();
  ExecEvents events;
  // Called on the session's thread only, which is joined before `output` is read.
  const auto keep = [&output](std::string_view data) {
    output.append(data);
    if (output.size() > kOutputMax) output.erase(0, output.size() - kOutputMax);
  };
  events.out = keep;
  events.err = keep;
  events.done = [&promise](Result<int> code) { promise.set_value(std::move(code)); };
  MUSTER_ASSIGN(auto session, ExecSession::start(runtime_, request, std::move(events)));
  const bool in_time = ended.wait_for(timeout) == std::future_status::ready;
  session.reset();
  if (!in_time) {
    return fail(StatusCode::kDeadlineExceeded,
                "the command did not end within " + format_duration(timeout));
  }
  MUSTER_ASSIGN(const int code, ended.get());
  return HealthResult{code, std::move(output)};
}

}  // namespace muster::agent
