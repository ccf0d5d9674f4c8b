#include <algorithm>
#include <map>

#include "base/time.h"
#include "deploy/cli/commands.h"
#include "deploy/cli/listing.h"
#include "deploy/cli/quantities.h"
#include "deploy/cli/task_table.h"

namespace muster::deploy::cli {
namespace {

struct LogOptions {
  bool follow = false, timestamps = false, raw = false, no_task_ids = false, no_trunc = false,
       no_resolve = false, details = false;
  std::string since, until, tail = "all";

  void declare(Flags& flags) {
    flags.toggle("follow,f", &follow, "go on with new lines");
    flags.toggle("timestamps,t", &timestamps, "show when each line was written");
    flags.toggle("raw", &raw, "no prefix before the lines");
    flags.toggle("no-task-ids", &no_task_ids, "no task ids in the prefix");
    flags.toggle("no-trunc", &no_trunc, "whole task ids in the prefix");
    flags.toggle("no-resolve", &no_resolve, "ids instead of names in the prefix");
    flags.toggle("details", &details, "accepted for compatibility");
    flags.value("since", &since, "TIME", "lines from a time or for a duration (10m)");
    flags.value("until", &until, "TIME", "lines up to a time or a duration ago");
    flags.value("tail,n", &tail, "LINES", "only the last lines of each task (all)");
  }
  Status fill(v1::LogsRequest* request, int64_t now_ns) const {
    request->set_follow(follow);
    request->set_stdout(true);
    request->set_stderr(true);
    if (tail != "all") {
      const auto lines = parse_unsigned(tail);
      if (!lines) return usage_error(fmt::format("invalid number of lines \"{}\"", tail));
      request->set_tail(static_cast<int64_t>(std::min<uint64_t>(*lines, INT64_MAX)));
    }
    if (!since.empty()) {
      MUSTER_ASSIGN(const int64_t at, parse_moment(since, now_ns));
      request->set_since_ns(at);
    }
    if (!until.empty()) {
      MUSTER_ASSIGN(const int64_t at, parse_moment(until, now_ns));
      request->set_until_ns(at);
    }
    return ok_status();
  }
};

// "web.1.3f2k@node" for each task; tasks that appear while following are looked up once.
class Prefixes {
 public:
  Prefixes(Run& run, const LogOptions& options) : run_(run), options_(options) {}

  Status fetch_nodes() {
    MUSTER_ASSIGN(nodes_, node_names(run_));
    return ok_status();
  }
  void add(const v1::Task& task) {
    std::string text = options_.no_resolve ? task.id() : task.name();
    if (!options_.no_task_ids && !options_.no_resolve)
      text += "." + (options_.no_trunc ? task.id() : short_id(task.id()));
    const auto node = nodes_.find(task.node_id());
    const bool resolved = node != nodes_.end() && !options_.no_resolve;
    text += "@" + (resolved ? node->second : task.node_id());
    width_ = std::max(width_, text.size());
    prefixes_[task.id()] = std::move(text);
  }
  std::string of(const std::string& task_id) {
    auto it = prefixes_.find(task_id);
    if (it == prefixes_.end()) {
      v1::GetTaskRequest request;
      request.set_task(task_id);
      if (const auto task = run_.client().call(request))
        add(task->task());
      else
        prefixes_[task_id] = task_id;
      it = prefixes_.find(task_id);
    }
    return fmt::format("{:<{}}    | ", it->second, width_);
  }

 private:
  Run& run_;
  const LogOptions& options_;
  std::map<std::string, std::string> nodes_, prefixes_;
  size_t width_ = 0;
};

// The task with this id, or the newest of those that were called so: "web.1".
Result<v1::Task> find_task(Run& run, const std::string& name) {
  v1::GetTaskRequest get;
  get.set_task(name);
  auto by_id = run.client().call(get);
  if (by_id) return std::move(*by_id->mutable_task());
  if (by_id.error().code() != StatusCode::kNotFound) return fail(by_id.error());
  const Status missing = not_found("no such task or service: {}", name);
  const size_t dot = name.rfind('.');
  if (dot == std::string::npos) return fail(missing);
  v1::GetServiceRequest get_service;
  get_service.set_service(name.substr(0, dot));
  const auto service = run.client().call(get_service);
  if (!service && service.error().code() != StatusCode::kNotFound) return fail(service.error());
  if (!service) return fail(missing);
  v1::ListTasksRequest list;
  list.mutable_filter()->add_service_ids(service->service().id());
  MUSTER_ASSIGN(const auto tasks, run.client().call(list));
  const v1::Task* newest = nullptr;
  for (const auto& task : tasks.tasks()) {
    if (task.name() != name) continue;
    if (newest == nullptr || task.meta().created_at_ns() > newest->meta().created_at_ns())
      newest = &task;
  }
  if (newest == nullptr) return fail(missing);
  return *newest;
}

// A service's tasks, or the one task that the name means.
Status find_targets(Run& run, const std::string& name, v1::LogsRequest* request,
                    Prefixes* prefixes) {
  v1::GetServiceRequest get;
  get.set_service(name);
  const auto service = run.client().call(get);
  if (service) {
    request->add_service_ids(service->service().id());
    v1::ListTasksRequest list;
    list.mutable_filter()->add_service_ids(service->service().id());
    MUSTER_ASSIGN(const auto tasks, run.client().call(list));
    for (const auto& task : tasks.tasks()) prefixes->add(task);
    return ok_status();
  }
  if (service.error().code() != StatusCode::kNotFound) return service.error();
  MUSTER_ASSIGN(const v1::Task task, find_task(run, name));
  request->add_task_ids(task.id());
  prefixes->add(task);
  return ok_status();
}

}  // namespace

Result<int> logs(Run& run) {
  LogOptions options;
  options.declare(run.flags);
  MUSTER_TRY(run.parse(1, 1));
  v1::LogsRequest request;
  MUSTER_TRY(options.fill(&request, run.world.now_ns()));
  Prefixes prefixes(run, options);
  if (!options.raw) MUSTER_TRY(prefixes.fetch_nodes());
  MUSTER_TRY(find_targets(run, run.args[0], &request, &prefixes));
  const auto stream = run.client().logs(request);
  for (;;) {
    v1::LogsResponse message;
    while (stream->pop(&message)) {
      std::string text;
      if (options.timestamps) text += format_rfc3339(WallTime{message.time_ns()}) + " ";
      if (!options.raw) text += prefixes.of(message.task_id());
      text += message.line();
      if (text.empty() || text.back() != '\n') text += '\n';
      if (message.stderr())
        run.world.err(text);
      else
        run.world.out(text);
    }
    if (stream->ended()) break;
    wait_readable({stream->fd()}, std::nullopt);
  }
  MUSTER_TRY(stream->status());
  return 0;
}

}  // namespace muster::deploy::cli
