#include "deploy/daemon/log_calls.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <optional>
#include <utility>

#include "agent/logs/log_reader.h"
#include "deploy/daemon/grpc_status.h"

namespace muster::daemon {
namespace {

constexpr size_t kQueueMax = 1024;

agent::LogQuery query_of(const v1::LogsRequest& request, const LogSource& source) {
  agent::LogQuery query;
  query.bundle_dir = source.bundle_dir;
  if (request.has_tail()) query.tail = request.tail();
  query.since_ns = request.since_ns();
  query.until_ns = request.until_ns();
  // Neither asked for means both.
  const bool both = !request.stdout() && !request.stderr();
  query.include_stdout = both || request.stdout();
  query.include_stderr = both || request.stderr();
  query.follow = request.follow();
  return query;
}

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

// Between the readers' threads, which wait when it is full, and gRPC's.
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
      if (--readers == 0 && !writing) finish();
    }
    void written(bool ok) {
      std::lock_guard lock(mutex);
      writing = false;
      if (!ok) close();
      room.notify_all();
      if (!queue.empty()) {
        write_next();
      } else if (readers == 0 || closed) {
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
    // Registers a reader to be cancelled with the call; false when it is over already.
    bool enlist(agent::LogReader& reader) {
      std::lock_guard lock(mutex);
      if (closed) return false;
      following.push_back(&reader);
      return true;
    }
    void delist(agent::LogReader& reader) {
      std::lock_guard lock(mutex);
      std::erase(following, &reader);
    }

    std::mutex mutex;
    std::condition_variable room;
    LogStream* stream = nullptr;
    size_t readers = 0;

   private:
    void close() {
      closed = true;
      queue.clear();
      for (agent::LogReader* reader : following) reader->cancel();
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
    std::vector<agent::LogReader*> following;
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

void follow_one(const Shared& shared, const v1::LogsRequest& request, const LogSource& source) {
  agent::LogReader reader(query_of(request, source));
  Status status;
  if (shared->enlist(reader)) {
    status = reader.run(
        [&](agent::LogLine line) {
          return shared->push(to_message(source.task_id, std::move(line)));
        },
        source.ended);
    shared->delist(reader);
  }
  shared->reader_done(status);
}

void read_all(const Shared& shared, const v1::LogsRequest& request,
              const std::vector<LogSource>& sources) {
  std::vector<v1::LogsResponse> lines;
  Status outcome;
  for (const LogSource& source : sources) {
    agent::LogReader reader(query_of(request, source));
    const Status status = reader.run(
        [&](agent::LogLine line) {
          lines.push_back(to_message(source.task_id, std::move(line)));
          return true;
        },
        source.ended);
    if (!status.ok() && outcome.ok()) outcome = status;
  }
  std::stable_sort(lines.begin(), lines.end(),
                   [](const auto& a, const auto& b) { return a.time_ns() < b.time_ns(); });
  for (auto& line : lines) {
    if (!shared->push(std::move(line))) break;
  }
  shared->reader_done(outcome);
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
                                                            std::vector<LogSource> sources) {
  if (sources.empty()) return refuse(ok_status());
  const Status busy = resource_exhausted("more than {} logs are being read", kReadersMax);
  auto shared = std::make_shared<LogStream::Shared>();
  shared->readers = request.follow() ? sources.size() : 1;
  auto* stream = new LogStream(shared);
  if (!request.follow()) {
    if (!spawn([shared, request, sources] { read_all(shared, request, sources); })) {
      shared->reader_done(busy);
    }
    return stream;
  }
  for (const LogSource& source : sources) {
    if (!spawn([shared, request, source] { follow_one(shared, request, source); })) {
      shared->reader_done(busy);
    }
  }
  return stream;
}

}  // namespace muster::daemon
