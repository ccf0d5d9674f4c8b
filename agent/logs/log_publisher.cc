#include "agent/logs/log_publisher.h"

#include <algorithm>
#include <mutex>
#include <set>
#include <thread>
#include <utility>

#include "agent/logs/log_reader.h"
#include "base/check.h"
#include "base/thread_executor.h"

namespace muster::agent {
namespace {

// Changes of tasks come in bursts; what they write meanwhile waits in the files.
constexpr Duration kRefreshDelay = 50ms;

bool contains(const google::protobuf::RepeatedPtrField<std::string>& list,
              const std::string& value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

}  // namespace

// One subscription: its reader, its stream, its thread.
class LogPublisher::Subscription final : public LogOutput {
 public:
  Subscription(v1::LogSubscription wanted, std::unique_ptr<LogPublishStream> stream)
      : wanted_(std::move(wanted)), reader_(log_query(wanted_), true), stream_(std::move(stream)) {}
  ~Subscription() override {
    cancel();
    if (thread_.joinable()) thread_.join();
  }

  void start(std::function<void()> done) {
    thread_ = std::thread([this, done = std::move(done)] {
      run();
      done();
    });
  }
  void cancel() {
    stream_->cancel();
    reader_.cancel();
  }
  void finish() { reader_.finish(); }

  // The node's tasks as they are now; `first` before start().
  void update(const std::vector<LoggedTask>& tasks, bool first) {
    std::set<std::string> known;
    bool all_ended = true;
    for (const LoggedTask& task : tasks) {
      const bool of_service = contains(wanted_.service_ids(), task.service_id);
      if (!of_service && !contains(wanted_.task_ids(), task.task_id)) continue;
      known.insert(task.task_id);
      if (!task.ended) all_ended = false;
      if (task.started) offer(task);
    }
    if (first) {
      for (const std::string& id : wanted_.task_ids()) {
        if (known.count(id) == 0) missing(id, "the node does not have its log any more");
      }
    }
    if (wanted_.service_ids().empty() && all_ended) reader_.finish();
  }

 private:
  void offer(const LoggedTask& task) {
    if (offered_.insert(task.task_id).second) {
      if (!task.unreadable.empty()) return missing(task.task_id, task.unreadable);
      {
        std::lock_guard lock(mutex_);
        v1::LogTask& described = *news_.add_tasks();
        described.set_task_id(task.task_id);
        described.mutable_attributes()->Add(task.attributes.begin(), task.attributes.end());
      }
      reader_.add({task.task_id, task.bundle_dir, task.ended});
    } else if (task.ended) {
      reader_.set_ended(task.task_id);
    }
  }
  void missing(const std::string& task_id, const std::string& reason) {
    std::lock_guard lock(mutex_);
    v1::MissingLogs& entry = *news_.add_missing();
    entry.add_task_ids(task_id);
    entry.set_reason(reason);
  }

  // ---- from here on the thread's own

  void run() {
    message_.set_subscription_id(wanted_.id());
    if (!send()) return;
    const Status status = reader_.run(*this);
    if (!status.ok()) missing("", status.message());
    message_.set_end(true);
    if (send()) (void)stream_->finish();
  }
  bool line(const std::string& task_id, LogLine line) override {
    v1::LogLine& out = *message_.add_lines();
    out.set_task_id(task_id);
    out.set_time_ns(line.time_ns);
    out.set_stderr(line.is_stderr);
    out.set_line(std::move(line.text));
    bytes_ += out.line().size() + task_id.size() + 24;
    return bytes_ < kMessageBytes || send();
  }
  bool idle() override {
    take_news();
    const bool due = clock_.now() - sent_at_ >= kAlivePeriod;
    const bool nothing = message_.lines_size() == 0 && message_.tasks_size() == 0 &&
                         message_.missing_size() == 0 && !current_changed_;
    return (nothing && !due) || send();
  }
  bool current() override {
    current_ = current_changed_ = true;
    return true;
  }
  void take_news() {
    std::lock_guard lock(mutex_);
    for (auto& task : *news_.mutable_tasks()) *message_.add_tasks() = std::move(task);
    for (auto& entry : *news_.mutable_missing()) *message_.add_missing() = std::move(entry);
    news_.Clear();
  }
  bool send() {
    take_news();
    message_.set_current(current_);
    const bool sent = stream_->write(message_);
    message_.Clear();
    bytes_ = 0;
    current_changed_ = false;
    sent_at_ = clock_.now();
    return sent;
  }

  const v1::LogSubscription wanted_;
  LogReader reader_;
  std::unique_ptr<LogPublishStream> stream_;
  std::set<std::string> offered_;  // the strand's

  std::mutex mutex_;
  v1::LogPublish news_;  // tasks and missing, from the strand to the thread

  const SystemClock clock_;
  v1::LogPublish message_;
  size_t bytes_ = 0;
  bool current_ = false;
  bool current_changed_ = false;
  TimePoint sent_at_;
  std::thread thread_;
};

LogPublisher::LogPublisher(Executor& strand, std::function<std::vector<LoggedTask>()> tasks,
                           LogStreamFactory& streams, Log log)
    : strand_(strand),
      tasks_(std::move(tasks)),
      streams_(streams),
      log_(std::move(log)),
      self_(std::make_shared<LogPublisher*>(this)) {}

LogPublisher::~LogPublisher() {
  *self_ = nullptr;
  strand_.cancel(refresh_timer_);
  for (auto& [id, subscription] : active_) subscription->cancel();
  active_.clear();
}

void LogPublisher::subscribe(const v1::LogSubscription& wanted) {
  MUSTER_CHECK(strand_.is_current());
  const auto known = active_.find(wanted.id());
  if (known != active_.end()) {
    if (!wanted.follow()) known->second->finish();
    return;
  }
  if (active_.size() >= kSubscriptionsMax) {
    // The manager says that this node did not answer.
    log_->warn("{} log subscriptions are served already; one more is not", active_.size());
    return;
  }
  auto subscription = std::make_unique<Subscription>(wanted, streams_.open());
  Subscription* which = subscription.get();
  which->update(tasks_(), true);
  active_[wanted.id()] = std::move(subscription);
  which->start([this, self = self_, strand = &strand_, id = wanted.id(), which] {
    strand->post([this, self, id, which] {
      if (*self != nullptr) finished(id, which);
    });
  });
}

void LogPublisher::finished(const std::string& id, const Subscription* which) {
  const auto found = active_.find(id);
  if (found != active_.end() && found->second.get() == which) active_.erase(found);
}

void LogPublisher::cancel(const std::string& id) {
  MUSTER_CHECK(strand_.is_current());
  const auto found = active_.find(id);
  // Its thread ends by itself and is joined then; the strand does not wait for it.
  if (found != active_.end()) found->second->cancel();
}

void LogPublisher::tasks_changed() {
  MUSTER_CHECK(strand_.is_current());
  if (active_.empty() || refresh_timer_ != 0) return;
  refresh_timer_ = strand_.after(kRefreshDelay, [this] { refresh(); });
}

void LogPublisher::refresh() {
  refresh_timer_ = 0;
  if (active_.empty()) return;
  const std::vector<LoggedTask> tasks = tasks_();
  for (auto& [id, subscription] : active_) subscription->update(tasks, false);
}

}  // namespace muster::agent
