// service logs and stack logs: lines of all nodes, through the managers.
#include <signal.h>

#include <map>
#include <set>

#include "base/time.h"
#include "deploy/cli/commands.h"
#include "deploy/cli/listing.h"
#include "deploy/cli/log_lines.h"

namespace muster::deploy::cli {
namespace {

constexpr const char* kNamespaceLabel = "com.docker.stack.namespace";

Status check_tty(const v1::TaskSpec& spec, const LogOptions& options) {
  if (!spec.container().tty() || options.raw) return ok_status();
  return failed_precondition("tty service logs only supported with --raw");
}

Status add_service(Run& run, const v1::Service& service, const LogOptions& options,
                   v1::ServiceLogsRequest* request, LogPrinter* printer) {
  MUSTER_TRY(check_tty(service.spec().task(), options));
  request->add_services(service.id());
  MUSTER_ASSIGN(const auto tasks, tasks_of(run, service.id()));
  for (const auto& task : tasks) printer->add(task);
  return ok_status();
}

// Tells of lines that will not come; once for the same words.
class MissingReport {
 public:
  MissingReport(Run& run, LogPrinter& printer) : run_(run), printer_(printer) {}

  void add(const v1::MissingLogs& missing) {
    any_ = true;
    std::vector<std::string> tasks;
    for (const auto& id : missing.task_ids())
      if (!id.empty()) tasks.push_back(printer_.name_of(id));
    const std::string node =
        missing.hostname().empty() ? printer_.node_name(missing.node_id()) : missing.hostname();
    std::string text =
        fmt::format("warning: incomplete log stream: node {}: {}", node, missing.reason());
    if (!tasks.empty()) text += fmt::format(" ({})", join(tasks, ", "));
    if (told_.insert(text).second) run_.warn(text);
  }
  bool any() const { return any_; }

 private:
  Run& run_;
  LogPrinter& printer_;
  std::set<std::string> told_;
  bool any_ = false;
};

// The manager went away in the middle: where the reader stands, and how to go on.
Status cut_off(const Status& why, const LogPrinter& printer) {
  // A server that stops cancels what is under way.
  if (why.code() != StatusCode::kUnavailable && why.code() != StatusCode::kCancelled) return why;
  std::string text = "the log stream was cut off: " + why.message();
  if (printer.last_time_ns() > 0)
    text += "; go on with --since " + format_rfc3339(WallTime{printer.last_time_ns()});
  return Status(why.code(), std::move(text), why.reason());
}

Result<int> print_logs(Run& run, const v1::ServiceLogsRequest& request, LogPrinter& printer,
                       Signals& signals) {
  MissingReport missing(run, printer);
  const auto stream = run.client().service_logs(request);
  for (;;) {
    v1::ServiceLogsResponse message;
    while (stream->pop(&message)) {
      for (const auto& task : message.tasks()) printer.describe(task);
      for (const auto& line : message.lines())
        printer.line(line.task_id(), line.time_ns(), line.stderr(), line.line());
      printer.flush();
      for (const auto& entry : message.missing()) missing.add(entry);
    }
    if (stream->ended()) break;
    wait_readable({stream->fd(), signals.fd()}, std::nullopt);
    if (signals.pop() != 0) return 130;
    if (run.world.out_status) MUSTER_TRY(run.world.out_status());
  }
  if (const Status status = stream->status(); !status.ok()) return fail(cut_off(status, printer));
  // As Docker ends: what is incomplete did not succeed.
  return missing.any() ? 1 : 0;
}

}  // namespace

Result<int> service_logs(Run& run) {
  LogOptions options;
  options.declare(run.flags);
  MUSTER_TRY(run.parse(1, -1));
  v1::ServiceLogsRequest request;
  MUSTER_TRY(options.fill(&request, run.world.now_ns()));
  Signals signals({SIGINT, SIGTERM});
  LogPrinter printer(run, options);
  MUSTER_TRY(printer.fetch_nodes());
  for (const std::string& name : run.args) {
    MUSTER_ASSIGN(const auto service, find_service(run, name));
    if (service) {
      MUSTER_TRY(add_service(run, *service, options, &request, &printer));
      continue;
    }
    MUSTER_ASSIGN(const v1::Task task, find_task(run, name));
    v1::GetTaskRequest get;
    get.set_task(task.id());
    MUSTER_ASSIGN(const auto known, run.client().call(get));
    MUSTER_TRY(check_tty(known.revision().spec(), options));
    request.add_tasks(task.id());
    printer.add(task);
  }
  return print_logs(run, request, printer, signals);
}

Result<int> stack_logs(Run& run) {
  LogOptions options;
  options.declare(run.flags);
  MUSTER_TRY(run.parse(1, -1));
  const std::string& stack = run.args[0];
  v1::ServiceLogsRequest request;
  MUSTER_TRY(options.fill(&request, run.world.now_ns()));
  Signals signals({SIGINT, SIGTERM});
  LogPrinter printer(run, options);
  v1::ListServicesRequest list;
  auto* label = list.mutable_filter()->add_labels();
  label->set_key(kNamespaceLabel);
  label->set_value(stack);
  MUSTER_ASSIGN(const auto services, run.client().call(list));
  if (services.services().empty()) return fail(not_found("nothing found in stack: {}", stack));
  std::map<std::string, const v1::Service*> by_name;
  for (const auto& entry : services.services()) {
    const std::string& name = entry.service().spec().annotations().name();
    by_name[name] = &entry.service();
  }
  std::vector<const v1::Service*> chosen;
  for (size_t i = 1; i < run.args.size(); ++i) {
    auto found = by_name.find(stack + "_" + run.args[i]);
    if (found == by_name.end()) found = by_name.find(run.args[i]);
    if (found == by_name.end())
      return fail(not_found("no such service in stack {}: {}", stack, run.args[i]));
    chosen.push_back(found->second);
  }
  if (chosen.empty())
    for (const auto& [name, service] : by_name) chosen.push_back(service);
  MUSTER_TRY(printer.fetch_nodes());
  for (const v1::Service* service : chosen)
    MUSTER_TRY(add_service(run, *service, options, &request, &printer));
  return print_logs(run, request, printer, signals);
}

}  // namespace muster::deploy::cli
