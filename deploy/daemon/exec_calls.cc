#include "deploy/daemon/exec_calls.h"

#include <grpcpp/server_context.h>

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "deploy/daemon/grpc_status.h"

namespace muster::daemon {
namespace {

using Reactor = grpc::ServerBidiReactor<v1::ExecInput, v1::ExecOutput>;

// Output that the client does not take is kept up to this; then the process waits.
constexpr size_t kOutputQueueBytesMax = 1 << 20;

class Refusal final : public Reactor {
 public:
  explicit Refusal(const Status& why) { Finish(to_grpc(why)); }
  void OnDone() override { delete this; }
};

// Lives until gRPC is done and the process has ended. The session is destroyed on the pool, since
// its destructor waits.
class ExecCall final : public Reactor {
 public:
  ExecCall(grpc::CallbackServerContext& context, WorkPool& pool,
           const agent::ConmonRuntime& runtime, ResolveExec resolve)
      : state_(std::make_shared<State>(context, pool)),
        runtime_(runtime),
        resolve_(std::move(resolve)) {
    state_->call = this;
    StartRead(&incoming_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) return state_->input_ended();
    if (!started_) return begin();
    switch (incoming_.message_case()) {
      case v1::ExecInput::kStdin:
        if (!state_->input(incoming_.stdin())) return;  // read on when there is room
        break;
      case v1::ExecInput::kStdinClosed: state_->close_input(); break;
      case v1::ExecInput::kResize:
        state_->resize(incoming_.resize().rows(), incoming_.resize().columns());
        break;
      default: break;  // a second start, or something newer: ignored
    }
    StartRead(&incoming_);
  }
  void OnWriteDone(bool ok) override { state_->written(ok); }
  void OnCancel() override { state_->abandon(); }
  void OnDone() override {
    state_->detach();
    delete this;
  }

 private:
  struct State : std::enable_shared_from_this<State> {
    State(grpc::CallbackServerContext& c, WorkPool& p) : context(c), pool(p) {}

    void output(bool err, std::string_view data) {
      v1::ExecOutput message;
      (err ? *message.mutable_stderr() : *message.mutable_stdout()).assign(data);
      std::unique_lock lock(mutex);
      room.wait(lock, [this] { return closed || queued_bytes < kOutputQueueBytesMax; });
      if (closed) return;
      queued_bytes += data.size();
      queue.push_back(std::move(message));
      if (!writing) write_next();
    }
    void exited(const Result<int>& code) {
      std::lock_guard lock(mutex);
      if (code) {
        v1::ExecOutput message;
        message.set_exit_code(*code);
        queue.push_back(std::move(message));
        outcome = grpc::Status::OK;
      } else {
        // The command's own failure to start, as opposed to ours to find the container.
        if (call != nullptr && !finished)
          context.AddTrailingMetadata("muster-reason", "exec-start-failed");
        outcome = to_grpc(code.error());
      }
      if (!writing) next();
    }
    void fail_start(const Status& why) {
      std::lock_guard lock(mutex);
      outcome = to_grpc(why);
      if (!writing) next();
    }
    void written(bool ok) {
      std::lock_guard lock(mutex);
      writing = false;
      if (!ok) close();
      next();
    }
    void abandon() {
      std::lock_guard lock(mutex);
      if (!outcome) outcome = grpc::Status(grpc::StatusCode::CANCELLED, "the client is gone");
      close();
      if (!writing) next();
    }
    void input_ended() {
      std::lock_guard lock(mutex);
      if (session != nullptr) session->close_input();
    }
    // False when the process is behind with its input: the message then waits in the call.
    bool input(const std::string& data) {
      std::lock_guard lock(mutex);
      return write_input(data);
    }
    void input_taken() {
      std::lock_guard lock(mutex);
      if (!input_waits || call == nullptr || finished) return;
      if (write_input(call->incoming_.stdin())) call->StartRead(&call->incoming_);
    }
    void close_input() { input_ended(); }
    void resize(uint32_t rows, uint32_t columns) {
      std::lock_guard lock(mutex);
      if (session != nullptr) session->resize(rows, columns);
    }
    void detach() {
      std::lock_guard lock(mutex);
      call = nullptr;
      close();
      release();
    }

    // With the lock held.
    bool write_input(const std::string& data) {
      const Status taken = session == nullptr ? ok_status() : session->write_input(data);
      input_waits = taken.code() == StatusCode::kResourceExhausted;
      return !input_waits;
    }
    void close() {
      closed = true;
      queue.clear();
      room.notify_all();
      if (session != nullptr) session->kill();
    }
    void write_next() {
      outgoing = std::move(queue.front());
      queue.pop_front();
      queued_bytes -= std::min(queued_bytes, outgoing.stdout().size() + outgoing.stderr().size());
      room.notify_all();
      writing = true;
      call->StartWrite(&outgoing);
    }
    void next() {
      if (call == nullptr || finished) return;
      if (!queue.empty()) {
        write_next();
      } else if (outcome) {
        finished = true;
        call->Finish(*outcome);
      }
    }
    void release() {
      if (session == nullptr) return;
      auto owned = std::make_shared<std::unique_ptr<agent::ExecSession>>(std::move(session));
      if (!pool.post([owned] { owned->reset(); })) owned->reset();
    }

    grpc::CallbackServerContext& context;  // alive until the call is done
    WorkPool& pool;
    std::mutex mutex;
    std::condition_variable room;
    ExecCall* call = nullptr;
    std::unique_ptr<agent::ExecSession> session;
    std::deque<v1::ExecOutput> queue;
    size_t queued_bytes = 0;
    v1::ExecOutput outgoing;
    bool writing = false;
    bool closed = false;
    bool finished = false;
    bool input_waits = false;
    std::optional<grpc::Status> outcome;
  };

  void begin() {
    started_ = true;
    if (incoming_.message_case() != v1::ExecInput::kStart) {
      return state_->fail_start(invalid_argument("the first message of exec must be a start"));
    }
    const bool queued = state_->pool.post([state = state_, &runtime = runtime_, resolve = resolve_,
                                           start = incoming_.start(),
                                           this] { run(state, runtime, resolve, start, this); });
    if (!queued) state_->fail_start(resource_exhausted("too many requests wait on this node"));
  }

  static void run(const std::shared_ptr<State>& state, const agent::ConmonRuntime& runtime,
                  const ResolveExec& resolve, const v1::ExecInput::Start& start, ExecCall* call) {
    const auto request = resolve(start);
    if (!request) return state->fail_start(request.error());
    agent::ExecEvents events;
    events.out = [state](std::string_view data) { state->output(false, data); };
    events.err = [state](std::string_view data) { state->output(true, data); };
    events.input_taken = [state] { state->input_taken(); };
    events.done = [state](const Result<int>& code) { state->exited(code); };
    auto session = agent::ExecSession::start(runtime, *request, std::move(events));
    if (!session) return state->fail_start(session.error());
    std::lock_guard lock(state->mutex);
    state->session = *std::move(session);
    if (state->closed) {
      state->session->kill();
      if (state->call == nullptr) state->release();
      return;
    }
    // Input is read only now, when there is somebody to take it; not for a command that has ended
    // already and whose call is over.
    if (state->finished) return;
    call->StartRead(&call->incoming_);
  }

  std::shared_ptr<State> state_;
  const agent::ConmonRuntime& runtime_;
  ResolveExec resolve_;
  bool started_ = false;
  v1::ExecInput incoming_;
};

}  // namespace

Reactor* start_exec(grpc::CallbackServerContext& context, WorkPool& pool,
                    const agent::ConmonRuntime& runtime, ResolveExec resolve) {
  return new ExecCall(context, pool, runtime, std::move(resolve));
}

Reactor* refuse_exec(const Status& why) {
  return new Refusal(why);
}

}  // namespace muster::daemon
