// logs: containers of this node, through its own API. The other nodes' are for service logs.
#include <signal.h>

#include <optional>

#include "deploy/cli/commands.h"
#include "deploy/cli/log_lines.h"

namespace muster::deploy::cli {
namespace {

// The container of this node that `name` is the id of, or its beginning, or the name.
Result<std::optional<v1::Container>> find_container(Run& run, const std::string& name) {
  v1::ListContainersRequest request;
  request.set_all(true);
  MUSTER_ASSIGN(const auto response, run.client().call(request));
  const v1::Container* found = nullptr;
  for (const auto& container : response.containers()) {
    if (container.id() == name || container.name() == name)
      return std::optional<v1::Container>(container);
    if (name.size() < 4 || !container.id().starts_with(name)) continue;
    if (found != nullptr)
      return fail(invalid_argument("\"{}\" is the beginning of several containers' ids", name));
    found = &container;
  }
  if (found == nullptr) return std::optional<v1::Container>();
  return std::optional<v1::Container>(*found);
}

// A container, a service's tasks, or the one task that the name means.
Status find_targets(Run& run, const std::string& name, v1::LogsRequest* request,
                    LogPrinter* printer) {
  MUSTER_ASSIGN(const auto container, find_container(run, name));
  if (container) {
    request->add_task_ids(container->task_id());
    return ok_status();
  }
  MUSTER_ASSIGN(const auto service, find_service(run, name));
  if (service) {
    request->add_service_ids(service->id());
    MUSTER_ASSIGN(const auto tasks, tasks_of(run, service->id()));
    for (const auto& task : tasks) printer->add(task);
    return ok_status();
  }
  MUSTER_ASSIGN(const v1::Task task, find_task(run, name));
  request->add_task_ids(task.id());
  printer->add(task);
  return ok_status();
}

}  // namespace

Result<int> logs(Run& run) {
  LogOptions options;
  options.declare(run.flags);
  MUSTER_TRY(run.parse(1, 1));
  v1::LogsRequest request;
  MUSTER_TRY(options.fill(&request, run.world.now_ns()));
  Signals signals({SIGINT, SIGTERM});
  LogPrinter printer(run, options);
  MUSTER_TRY(find_targets(run, run.args[0], &request, &printer));
  if (!options.raw) {
    // A worker cannot ask; its ids will do.
    const Status nodes = printer.fetch_nodes();
    if (!nodes.ok() && nodes.code() != StatusCode::kUnavailable) return fail(nodes);
  }
  const auto stream = run.client().logs(request);
  for (;;) {
    v1::LogsResponse message;
    while (stream->pop(&message))
      printer.line(message.task_id(), message.time_ns(), message.stderr(), message.line());
    printer.flush();
    if (stream->ended()) break;
    wait_readable({stream->fd(), signals.fd()}, std::nullopt);
    if (signals.pop() != 0) return 130;
  }
  MUSTER_TRY(stream->status());
  return 0;
}

}  // namespace muster::deploy::cli
