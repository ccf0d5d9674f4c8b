#include "deploy/daemon/stats_calls.h"

#include <chrono>
#include <condition_variable>
#include <memory>
#include <optional>
#include <utility>

#include "agent/runtime/stats.h"
#include "agent/worker/local_view.h"
#include "base/thread_executor.h"
#include "deploy/daemon/grpc_status.h"

namespace muster::daemon {
namespace {

// The first sample of a container has no CPU share; a short second one gives it, so that even a
// single answer is useful.
constexpr auto kFirstInterval = std::chrono::milliseconds(250);
constexpr auto kIntervalMin = std::chrono::milliseconds(100);
constexpr auto kIntervalDefault = std::chrono::seconds(1);

class Refusal final : public grpc::ServerWriteReactor<v1::StatsResponse> {
 public:
  explicit Refusal(const Status& why) { Finish(to_grpc(why)); }
  void OnDone() override { delete this; }
};

// The sampling thread waits for its write to end before it samples again: a slow client gets fewer
// samples, not old ones.
class StatsStream final : public grpc::ServerWriteReactor<v1::StatsResponse> {
 public:
  struct Shared {
    std::mutex mutex;
    std::condition_variable changed;
    StatsStream* stream = nullptr;
    bool writing = false;
    bool closed = false;
    v1::StatsResponse outgoing;

    // False once the client is gone.
    bool write(v1::StatsResponse response) {
      std::unique_lock lock(mutex);
      if (closed) return false;
      outgoing = std::move(response);
      writing = true;
      stream->StartWrite(&outgoing);
      changed.wait(lock, [this] { return !writing; });
      return !closed;
    }
    // True unless the client went away meanwhile.
    bool pause(std::chrono::nanoseconds d) {
      std::unique_lock lock(mutex);
      return !changed.wait_for(lock, d, [this] { return closed; });
    }
    void finish(const Status& status) {
      std::lock_guard lock(mutex);
      if (stream != nullptr) stream->Finish(to_grpc(status));
    }
    void close() {
      std::lock_guard lock(mutex);
      closed = true;
      changed.notify_all();
    }
  };

  explicit StatsStream(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {
    shared_->stream = this;
  }
  void OnWriteDone(bool ok) override {
    std::lock_guard lock(shared_->mutex);
    shared_->writing = false;
    if (!ok) shared_->closed = true;
    shared_->changed.notify_all();
  }
  void OnCancel() override { shared_->close(); }
  void OnDone() override {
    {
      std::lock_guard lock(shared_->mutex);
      shared_->stream = nullptr;
    }
    shared_->close();
    delete this;
  }

 private:
  std::shared_ptr<Shared> shared_;
};

// The tasks a request is about: those it names, or all that run.
Result<std::vector<v1::LocalTask>> chosen(const v1::StatsRequest& request,
                                          const std::vector<v1::LocalTask>& tasks) {
  std::vector<v1::LocalTask> out;
  for (const std::string& name : request.containers()) {
    MUSTER_ASSIGN(auto task, agent::resolve_container(tasks, name));
    out.push_back(std::move(task));
  }
  if (!request.containers().empty()) return out;
  for (const v1::LocalTask& task : tasks) {
    if (agent::is_running(task)) out.push_back(task);
  }
  return out;
}

Result<v1::StatsResponse> sample(const v1::StatsRequest& request, const StatsCalls::Tasks& tasks,
                                 agent::StatsSampler& sampler, const SystemClock& clock) {
  MUSTER_ASSIGN(const auto all, tasks());
  MUSTER_ASSIGN(const auto wanted, chosen(request, all));
  v1::StatsResponse response;
  response.set_time_ns(clock.wall_now().unix_ns);
  for (const v1::LocalTask& task : wanted) {
    const v1::Task& assigned = task.assignment().task();
    auto stats =
        sampler.sample(task.container_id(), assigned.name() + "." + assigned.id(), clock.now());
    if (stats) *response.add_containers() = *std::move(stats);  // else it ended meanwhile
  }
  return response;
}

void run(const std::shared_ptr<StatsStream::Shared>& shared, const v1::StatsRequest& request,
         const StatsCalls::Tasks& tasks, const agent::ConmonRuntime& runtime) {
  agent::StatsSampler sampler(runtime);
  const SystemClock clock;
  std::chrono::nanoseconds interval(request.interval_ns());
  if (interval.count() == 0) interval = kIntervalDefault;
  interval = std::max<std::chrono::nanoseconds>(interval, kIntervalMin);
  if (const auto first = sample(request, tasks, sampler, clock); !first) {
    return shared->finish(first.error());
  }
  bool open = shared->pause(kFirstInterval);
  while (open) {
    auto response = sample(request, tasks, sampler, clock);
    if (!response) return shared->finish(response.error());
    open = shared->write(*std::move(response)) && request.stream() && shared->pause(interval);
  }
  shared->finish(ok_status());
}

}  // namespace

StatsCalls::~StatsCalls() {
  std::lock_guard lock(mutex_);
  streams_.clear();  // waits for each; their calls were cancelled with the server
}

grpc::ServerWriteReactor<v1::StatsResponse>* StatsCalls::refuse(const Status& why) {
  return new Refusal(why);
}

grpc::ServerWriteReactor<v1::StatsResponse>* StatsCalls::start(const v1::StatsRequest& request,
                                                               Tasks tasks) {
  std::lock_guard lock(mutex_);
  std::erase_if(streams_, [](const std::future<void>& s) {
    return s.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
  });
  if (streams_.size() >= kStreamsMax) {
    return refuse(resource_exhausted("more than {} statistics streams are open", kStreamsMax));
  }
  auto shared = std::make_shared<StatsStream::Shared>();
  auto* stream = new StatsStream(shared);
  streams_.push_back(std::async(std::launch::async,
                                [shared, request, tasks = std::move(tasks), &runtime = runtime_] {
                                  run(shared, request, tasks, runtime);
                                }));
  return stream;
}

}  // namespace muster::daemon
