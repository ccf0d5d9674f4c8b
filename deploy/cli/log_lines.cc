#include "deploy/cli/log_lines.h"

#include <algorithm>
#include <optional>

#include "base/time.h"
#include "deploy/cli/listing.h"
#include "deploy/cli/quantities.h"
#include "deploy/cli/task_table.h"

namespace muster::deploy::cli {
namespace {

// Of prefixes on a terminal: the basic colours that can be read on light and on dark.
constexpr int kColours[] = {36, 33, 32, 35, 34, 31};
constexpr size_t kPendingMax = 64 << 10;

// "a=b,c=d", as Docker shows what a driver's options select.
std::string details_text(const v1::LogTask& task) {
  std::string out;
  for (const auto& attribute : task.attributes()) {
    if (!out.empty()) out += ",";
    out += attribute.key() + "=" + attribute.value();
  }
  return out;
}

}  // namespace

void LogOptions::declare(Flags& flags) {
  flags.toggle("follow,f", &follow, "go on with new lines");
  flags.toggle("timestamps,t", &timestamps, "show when each line was written");
  flags.toggle("raw", &raw, "no prefix before the lines");
  flags.toggle("no-task-ids", &no_task_ids, "no task ids in the prefix");
  flags.toggle("no-trunc", &no_trunc, "whole task ids in the prefix");
  flags.toggle("no-resolve", &no_resolve, "ids instead of names in the prefix");
  flags.toggle("details", &details, "show what the log driver's options labels and env select");
  flags.value("since", &since, "TIME", "lines from a time or for a duration (10m)");
  flags.value("until", &until, "TIME", "lines up to a time or a duration ago");
  flags.value("tail,n", &tail, "LINES", "only the last lines of each task (all)");
}

Status LogOptions::parse(int64_t now_ns, int64_t* lines, int64_t* since_ns,
                         int64_t* until_ns) const {
  if (tail != "all") {
    const auto number = parse_unsigned(tail);
    if (!number) return usage_error(fmt::format("invalid number of lines \"{}\"", tail));
    *lines = static_cast<int64_t>(std::min<uint64_t>(*number, INT64_MAX));
  }
  if (!since.empty()) {
    MUSTER_ASSIGN(*since_ns, parse_moment(since, now_ns));
  }
  if (!until.empty()) {
    MUSTER_ASSIGN(*until_ns, parse_moment(until, now_ns));
  }
  return ok_status();
}

LogPrinter::LogPrinter(Run& run, const LogOptions& options) : run_(run), options_(options) {
  colours_ = run.world.out_is_terminal && run.env("NO_COLOR").empty() && run.env("TERM") != "dumb";
}

Status LogPrinter::fetch_nodes() {
  MUSTER_ASSIGN(nodes_, node_names(run_));
  return ok_status();
}

std::string LogPrinter::node_name(const std::string& node_id) const {
  const auto node = nodes_.find(node_id);
  return node == nodes_.end() || options_.no_resolve ? node_id : node->second;
}

void LogPrinter::add(const v1::Task& task) {
  std::string text = task.name();
  if (options_.no_resolve) {
    text = task.service_id() + "." +
           (task.slot() > 0 ? fmt::format("{}", task.slot()) : task.node_id());
  }
  if (!options_.no_task_ids) text += "." + (options_.no_trunc ? task.id() : short_id(task.id()));
  text += "@" + node_name(task.node_id());
  width_ = std::max(width_, text.size());
  names_[task.id()] = std::move(text);
}

void LogPrinter::describe(const v1::LogTask& task) {
  if (const std::string text = details_text(task); !text.empty()) details_[task.task_id()] = text;
}

std::string LogPrinter::name_of(const std::string& task_id) {
  auto it = names_.find(task_id);
  if (it == names_.end()) {
    v1::GetTaskRequest request;
    request.set_task(task_id);
    if (const auto task = run_.client().call(request)) {
      add(task->task());
    } else {
      names_[task_id] = task_id;
    }
    it = names_.find(task_id);
  }
  return it->second;
}

std::string LogPrinter::prefix(const std::string& task_id) {
  const std::string text = fmt::format("{:<{}}", name_of(task_id), width_) + "    | ";
  if (!colours_) return text;
  const size_t number = numbers_.try_emplace(task_id, numbers_.size()).first->second;
  return fmt::format("\x1b[{}m{}\x1b[0m", kColours[number % std::size(kColours)], text);
}

void LogPrinter::line(const std::string& task_id, int64_t time_ns, bool is_stderr,
                      std::string_view text) {
  std::string out;
  if (options_.timestamps) out += format_rfc3339(WallTime{time_ns}) + " ";
  if (!options_.raw) out += prefix(task_id);
  if (options_.details) {
    const auto details = details_.find(task_id);
    if (details != details_.end()) out += details->second + " ";
  }
  out += text;
  if (out.empty() || out.back() != '\n') out += '\n';
  if (is_stderr != pending_stderr_ || pending_.size() > kPendingMax) flush();
  pending_stderr_ = is_stderr;
  pending_ += out;
  last_time_ns_ = std::max(last_time_ns_, time_ns);
}

void LogPrinter::flush() {
  if (pending_.empty()) return;
  if (pending_stderr_) {
    run_.world.err(pending_);
  } else {
    run_.world.out(pending_);
  }
  pending_.clear();
}

Result<std::optional<v1::Service>> find_service(Run& run, const std::string& name) {
  v1::GetServiceRequest get;
  get.set_service(name);
  const auto service = run.client().call(get);
  if (service) return std::optional<v1::Service>(service->service());
  if (service.error().code() != StatusCode::kNotFound) return fail(service.error());
  return std::optional<v1::Service>();
}

Result<std::vector<v1::Task>> tasks_of(Run& run, const std::string& service_id) {
  v1::ListTasksRequest list;
  list.mutable_filter()->add_service_ids(service_id);
  MUSTER_ASSIGN(const auto tasks, run.client().call(list));
  return std::vector<v1::Task>(tasks.tasks().begin(), tasks.tasks().end());
}

Result<v1::Task> find_task(Run& run, const std::string& name) {
  v1::GetTaskRequest get;
  get.set_task(name);
  auto by_id = run.client().call(get);
  if (by_id) return std::move(*by_id->mutable_task());
  if (by_id.error().code() != StatusCode::kNotFound) return fail(by_id.error());
  const Status missing = not_found("no such task or service: {}", name);
  const size_t dot = name.rfind('.');
  if (dot == std::string::npos) return fail(missing);
  MUSTER_ASSIGN(const auto service, find_service(run, name.substr(0, dot)));
  if (!service) return fail(missing);
  MUSTER_ASSIGN(const auto tasks, tasks_of(run, service->id()));
  const v1::Task* newest = nullptr;
  for (const auto& task : tasks) {
    if (task.name() != name) continue;
    if (newest == nullptr || task.meta().created_at_ns() > newest->meta().created_at_ns())
      newest = &task;
  }
  if (newest == nullptr) return fail(missing);
  return *newest;
}

}  // namespace muster::deploy::cli
