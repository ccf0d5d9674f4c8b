#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "agent/logs/log_cursor.h"
#include "agent/logs/log_line.h"
#include "base/status.h"
#include "base/time.h"
#include "base/unique_fd.h"

namespace muster::agent {

// One container whose log is read.
struct LogSource {
  std::string task_id;
  std::string bundle_dir;  // need not exist yet while following
  bool ended = false;      // its container writes no more
};

struct LogQuery {
  std::optional<int64_t> tail;  // last lines of each source that match; absent = all
  LogFilter filter;
  bool follow = false;
};

// What a v1::LogsRequest or v1::LogSubscription asks for. Neither stream named means both.
template <class Wanted>
LogQuery log_query(const Wanted& wanted) {
  LogQuery query;
  if (wanted.has_tail()) query.tail = wanted.tail();
  query.filter.since_ns = wanted.since_ns();
  query.filter.until_ns = wanted.until_ns();
  const bool both = !wanted.stdout() && !wanted.stderr();
  query.filter.include_stdout = both || wanted.stdout();
  query.filter.include_stderr = both || wanted.stderr();
  query.follow = wanted.follow();
  return query;
}

// Takes what is read, on the reader's thread. What returns false stops the reader.
class LogOutput {
 public:
  virtual ~LogOutput() = default;
  // Blocking here is the back-pressure: nothing is read meanwhile.
  virtual bool line(const std::string& task_id, LogLine line) = 0;
  // A good time to pass on what was collected: everything written so far was handed over, or a long
  // stretch had nothing of interest. Called once every LogReader::kIdlePeriod while nothing comes.
  virtual bool idle() { return true; }
  // Only new lines come from here on. Before the first idle(), once.
  virtual bool current() { return true; }
};

// Reads the logs of several containers merged by time, and follows them with inotify. One thread
// runs it; all other methods may be called from any thread at any time.
//
// Without `follow` it ends with what is written. Following, it ends when it is cancelled, when
// until_ns has passed, or when finish() was called or it is not `open_ended` and every source has
// ended and was read to its end.
class LogReader {
 public:
  static constexpr Duration kIdlePeriod = 1s;

  // `open_ended`: sources may still be added after all present ones have ended.
  LogReader(LogQuery query, bool open_ended);
  ~LogReader();

  // Known ones are left as they are.
  void add(LogSource source);
  void set_ended(const std::string& task_id);
  // Reads what is written and ends.
  void finish();
  void cancel();

  Status run(LogOutput& output);

 private:
  struct Open {
    std::string task_id;
    LogCursor cursor;
    std::optional<LogLine> head;  // the next line
    bool ended = false;           // as of before the last look at the file
    bool over = false;            // nothing can come any more
    int watch = -1;
  };
  enum class Pass { kGoOn, kStop };

  // Takes over what other threads have said since the last time.
  void take_news();
  void open(LogSource source);
  void watch(Open& source);
  bool vanished(const Open& source) const;
  Pass pull(Open& source, LogOutput& output);
  // Hands over every line that is there, in the order of time.
  Pass drain(LogOutput& output, const std::set<Open*>& changed);
  void retire(const std::set<Open*>& changed);
  bool complete() const;
  // False when cancelled.
  bool wait(std::set<Open*>* changed);
  void wake();

  const LogQuery query_;
  const bool open_ended_;
  UniqueFd inotify_;
  UniqueFd event_;

  std::mutex mutex_;  // of what other threads say
  std::vector<LogSource> added_;
  std::vector<std::string> ended_;
  bool finish_asked_ = false;
  bool cancelled_ = false;

  // The running thread's alone.
  std::vector<std::unique_ptr<Open>> sources_;
  std::map<std::string, Open*, std::less<>> by_task_;  // null = over
  std::map<int, Open*> by_watch_;
  bool finishing_ = false;
  bool was_current_ = false;
};

}  // namespace muster::agent
