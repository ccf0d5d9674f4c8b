#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "deploy/cli/run.h"

namespace muster::deploy::cli {

// The options that logs, service logs and stack logs share.
struct LogOptions {
  bool follow = false, timestamps = false, raw = false, no_task_ids = false, no_trunc = false,
       no_resolve = false, details = false;
  std::string since, until, tail = "all";

  void declare(Flags& flags);
  // Into a v1::LogsRequest or a v1::ServiceLogsRequest.
  template <class Request>
  Status fill(Request* request, int64_t now_ns) const {
    request->set_follow(follow);
    request->set_stdout(true);
    request->set_stderr(true);
    int64_t lines = -1, since_ns = 0, until_ns = 0;
    MUSTER_TRY(parse(now_ns, &lines, &since_ns, &until_ns));
    if (lines >= 0) request->set_tail(lines);
    request->set_since_ns(since_ns);
    request->set_until_ns(until_ns);
    return ok_status();
  }

 private:
  Status parse(int64_t now_ns, int64_t* lines, int64_t* since_ns, int64_t* until_ns) const;
};

// Prints lines as docker service logs does: "[time ]web.1.3f2k@node    | [details ]text". Lines of
// stderr go to stderr. On a terminal each task's prefix has a colour.
class LogPrinter {
 public:
  LogPrinter(Run& run, const LogOptions& options);

  // Before anything else, unless prefixes are not wanted.
  Status fetch_nodes();
  // Known before its lines; tasks that appear later are looked up when their first line comes.
  void add(const v1::Task& task);
  void describe(const v1::LogTask& task);
  void line(const std::string& task_id, int64_t time_ns, bool is_stderr, std::string_view text);
  // Everything printed so far goes out.
  void flush();

  // The time of the newest line printed; 0 before.
  int64_t last_time_ns() const { return last_time_ns_; }
  // "web.1.3f2k@node".
  std::string name_of(const std::string& task_id);
  std::string node_name(const std::string& node_id) const;

 private:
  std::string prefix(const std::string& task_id);

  Run& run_;
  const LogOptions& options_;
  bool colours_ = false;
  std::map<std::string, std::string> nodes_, names_, details_;
  std::map<std::string, size_t> numbers_;  // of tasks, for colours
  size_t width_ = 0;
  std::string pending_;
  bool pending_stderr_ = false;
  int64_t last_time_ns_ = 0;
};

// The service of this name; nothing when there is none.
Result<std::optional<v1::Service>> find_service(Run& run, const std::string& name);
// The task with this id, or the newest of those that were called so: "web.1".
Result<v1::Task> find_task(Run& run, const std::string& name);
Result<std::vector<v1::Task>> tasks_of(Run& run, const std::string& service_id);

}  // namespace muster::deploy::cli
