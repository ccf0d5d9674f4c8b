#include "deploy/daemon/log_calls.h"

#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <set>
#include <utility>

#include "base/thread_executor.h"
#include "deploy/daemon/grpc_status.h"

namespace muster::daemon {
namespace {

constexpr size_t kQueueMax = 1024;

v1::LogsResponse to_message(const std::string& task_id, agent::LogLine line) {
  v1::LogsResponse message;
  message.set_task_id(task_id);
  message.set_time_ns(line.time_ns);
  message.set_stderr(line.is_stderr);
  message.set_line(std::move(line.text));
  return message;
}

class Refusal final : public grpc::ServerWriteReactor<v1::LogsResponse> {
 public:
  explicit Refusal(const Status& why) { Finish(to_grpc(why)); }
  void OnDone() override { delete this; }
};

// Between the reader's thread, which waits when it is full, and gRPC's.
class LogStream final : public grpc::ServerWriteReactor<v1::LogsResponse> {
 public:
  struct Shared {
    // From readers: false once the client is gone.
    bool push(v1::LogsResponse message) {
      std::unique_lock lock(mutex);
      room.wait(lock, [this] { return closed || queue.size() < kQueueMax; });
      if (closed) return false;
      queue.push_back(std::move(message));
      if (!writing) write_next();
      return true;
    }
    void reader_done(const Status& status) {
      std::lock_guard lock(mutex);
      if (!status.ok() && outcome.ok()) outcome = status;
      reader = nullptr;
      read_all = true;
      if (queue.empty() && !writing) finish();
    }
    void written(bool ok) {
      std::lock_guard lock(mutex);
      writing = false;
      if (!ok) close();
      room.notify_all();
      if (!queue.empty()) {
        write_next();
      } else if (read_all || closed) {
        finish();
      }
    }
    void cancel() {
      std::lock_guard lock(mutex);
      close();
      room.notify_all();
      if (!writing) finish();
    }
    void detach() {
      std::lock_guard lock(mutex);
      stream = nullptr;
      close();
      room.notify_all();
    }
    // Has the reader cancelled with the call; false when that is over already.
    bool enlist(agent::LogReader& running) {
      std::lock_guard lock(mutex);
      if (closed) return false;
      reader = &running;
      return true;
    }

    std::mutex mutex;
    std::condition_variable room;
    LogStream* stream = nullptr;

   private:
    void close() {
      closed = true;
      queue.clear();
      if (reader != nullptr) reader->cancel();
    }
    void write_next() {
      outgoing = std::move(queue.front());
      queue.pop_front();
      room.notify_all();
      writing = true;
      stream->StartWrite(&outgoing);
    }
    void finish() {
      if (stream == nullptr || std::exchange(finished, true)) return;
      stream->Finish(to_grpc(outcome));
    }

    std::deque<v1::LogsResponse> queue;
    v1::LogsResponse outgoing;
    bool writing = false;
    bool closed = false;
    bool finished = false;
    Status outcome;
    bool read_all = false;
    agent::LogReader* reader = nullptr;
  };

  explicit LogStream(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {
    shared_->stream = this;
  }
  void OnWriteDone(bool ok) override { shared_->written(ok); }
  void OnCancel() override { shared_->cancel(); }
  void OnDone() override {
    shared_->detach();
    delete this;
  }

 private:
  std::shared_ptr<Shared> shared_;
};

using Shared = std::shared_ptr<LogStream::Shared>;

class Output final : public agent::LogOutput {
 public:
  Output(Shared shared, agent::LogReader& reader, LogCalls::EndedTasks ended)
      : shared_(std::move(shared)), reader_(reader), ended_(std::move(ended)) {}

  bool line(const std::string& task_id, agent::LogLine line) override {
    return shared_->push(to_message(task_id, std::move(line)));
  }
  bool idle() override {
    const TimePoint now = clock_.now();
    if (now - asked_at_ < agent::LogReader::kIdlePeriod) return true;
    asked_at_ = now;
    for (const std::string& task_id : ended_()) {
      if (told_.insert(task_id).second) reader_.set_ended(task_id);
    }
    return true;
  }

 private:
  Shared shared_;
  agent::LogReader& reader_;
  LogCalls::EndedTasks ended_;
  std::set<std::string> told_;
  const SystemClock clock_;
  TimePoint asked_at_;
};

void read(const Shared& shared, const v1::LogsRequest& request,
          std::vector<agent::LogSource> sources, LogCalls::EndedTasks ended) {
  agent::LogReader reader(agent::log_query(request), false);
  for (agent::LogSource& source : sources) reader.add(std::move(source));
  Output output(shared, reader, std::move(ended));
  Status status;
  if (shared->enlist(reader)) status = reader.run(output);
  shared->reader_done(status);
}

}  // namespace

LogCalls::~LogCalls() {
  std::lock_guard lock(mutex_);
  readers_.clear();  // waits for each; their calls were cancelled with the server
}

bool LogCalls::spawn(std::function<void()> reader) {
  std::lock_guard lock(mutex_);
  std::erase_if(readers_, [](const std::future<void>& r) {
    return r.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
  });
  if (readers_.size() >= kReadersMax) return false;
  readers_.push_back(std::async(std::launch::async, std::move(reader)));
  return true;
}

grpc::ServerWriteReactor<v1::LogsResponse>* LogCalls::refuse(const Status& why) {
  return new Refusal(why);
}

grpc::ServerWriteReactor<v1::LogsResponse>* LogCalls::start(const v1::LogsRequest& request,
                                                            std::vector<agent::LogSource> sources,
                                                            EndedTasks ended) {
  if (sources.empty()) return refuse(ok_status());
  auto shared = std::make_shared<LogStream::Shared>();
  auto* stream = new LogStream(shared);
  if (!spawn([shared, request, sources = std::move(sources), ended = std::move(ended)] {
        read(shared, request, sources, ended);
      })) {
    shared->reader_done(resource_exhausted("{} logs are being read already", kReadersMax));
  }
  return stream;
}

}  // namespace muster::daemon
