#include "tests/bench/write_stream.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>

#include "base/rng.h"
#include "muster/v1/control.grpc.pb.h"

namespace muster::bench {
namespace {

constexpr auto kPeriod = std::chrono::milliseconds(10);
// How long a manager may keep silent before the next is asked, and how soon after a refusal.
constexpr auto kAttempt = std::chrono::milliseconds(250);
constexpr auto kAfterRefusal = std::chrono::milliseconds(5);
// What was written is removed so many writes later, or the state would grow for ever.
constexpr uint64_t kKept = 20;

// Ten seconds of them.
constexpr size_t kRemembered = 1000;

std::string name_of(uint64_t number) {
  return fmt::format("bench-{}", number);
}

}  // namespace

struct WriteStream::Manager {
  std::unique_ptr<v1::Control::Stub> stub;
};

WriteStream::WriteStream(std::vector<std::string> sockets) {
  for (const std::string& socket : sockets) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 20);
    // How long a connection may take to come about: on a busy machine more than gRPC's least.
    arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 2000);
    arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 50);
    auto manager = std::make_unique<Manager>();
    manager->stub = v1::Control::NewStub(grpc::CreateCustomChannel(
        "unix://" + socket, grpc::InsecureChannelCredentials(), arguments));
    managers_.push_back(std::move(manager));
  }
  thread_ = std::thread([this] { run(); });
}

WriteStream::~WriteStream() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  thread_.join();
}

TimePoint WriteStream::now() {
  return {std::chrono::steady_clock::now().time_since_epoch()};
}

Result<TimePoint> WriteStream::first_answer(TimePoint since, Duration patience) {
  std::unique_lock lock(mutex_);
  const auto first = [&] {
    return std::find_if(newest_.begin(), newest_.end(),
                        [&](const auto& write) { return write.first > since; });
  };
  if (!changed_.wait_for(lock, patience, [&] { return first() != newest_.end(); }))
    return fail(Status(StatusCode::kDeadlineExceeded,
                       fmt::format("no write was answered within {}", format_duration(patience))));
  return first()->second;
}

Status WriteStream::await_flow(Duration patience) {
  const auto answer = first_answer(now(), patience);
  return answer ? ok_status() : answer.error();
}

uint64_t WriteStream::answered() const {
  const std::lock_guard lock(mutex_);
  return answered_;
}

void WriteStream::run() {
  auto due = std::chrono::steady_clock::now();
  for (uint64_t number = 0;; ++number) {
    {
      std::unique_lock lock(mutex_);
      if (changed_.wait_until(lock, due, [&] { return stopping_; })) return;
    }
    due = std::max(due + kPeriod, std::chrono::steady_clock::now());
    const TimePoint began = now();
    if (!write(number)) return;
    const TimePoint answered = now();
    {
      const std::lock_guard lock(mutex_);
      ++answered_;
      newest_.emplace_back(began, answered);
      if (newest_.size() > kRemembered) newest_.pop_front();
      changed_.notify_all();
    }
    if (number >= kKept) remove(number - kKept);
  }
}

void WriteStream::remove(uint64_t number) {
  // Whether it goes through is of no interest; what is left goes with the lab.
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kAttempt);
  v1::RemoveConfigRequest removal;
  removal.set_config(name_of(number));
  v1::RemoveConfigResponse removed;
  managers_[current_]->stub->RemoveConfig(&context, removal, &removed);
}

// False: it is time to stop.
bool WriteStream::write(uint64_t number) {
  v1::CreateConfigRequest request;
  request.mutable_spec()->mutable_annotations()->set_name(name_of(number));
  request.mutable_spec()->set_data("x");
  request.set_request_id(SystemRng().id());
  while (true) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + kAttempt);
    v1::CreateConfigResponse response;
    const grpc::Status status =
        managers_[current_]->stub->CreateConfig(&context, request, &response);
    if (status.ok()) break;
    current_ = (current_ + 1) % managers_.size();
    std::unique_lock lock(mutex_);
    if (stopping_) return false;
    if (status.error_code() != grpc::StatusCode::DEADLINE_EXCEEDED)
      changed_.wait_for(lock, kAfterRefusal, [&] { return stopping_; });
  }
  return true;
}

}  // namespace muster::bench
