#include "tests/bench/put_load.h"

#include <grpcpp/create_channel.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>

#include "etcd.grpc.pb.h"

namespace muster::bench {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr int kChannelsMax = 16;
constexpr uint64_t kKeys = 10'000;
constexpr auto kWriteDeadline = std::chrono::seconds(20);

std::shared_ptr<grpc::Channel> connect(const PutTarget& target) {
  grpc::ChannelArguments arguments = target.arguments;
  // Connections of their own, or equal arguments would share one.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return grpc::CreateCustomChannel(target.address, target.credentials, arguments);
}

Duration own_cpu_time() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto time = [](const timeval& t) {
    return std::chrono::seconds(t.tv_sec) + std::chrono::microseconds(t.tv_usec);
  };
  return time(usage.ru_utime) + time(usage.ru_stime);
}

double ms(SteadyClock::duration d) {
  return std::chrono::duration<double, std::milli>(d).count();
}

// What all writers share.
struct Shared {
  std::atomic<bool> measuring{false};
  std::atomic<bool> ending{false};
  std::atomic<uint64_t> next_key{0};
  std::mutex mutex;
  std::condition_variable changed;
  int running = 0;              // guarded by mutex
  std::optional<Status> error;  // guarded by mutex; the first
};

// One client: a write after another. Its callbacks never overlap.
class Writer {
 public:
  Writer(Shared& shared, std::shared_ptr<grpc::Channel> channel, size_t value_bytes)
      : shared_(shared), stub_(etcdserverpb::KV::NewStub(std::move(channel))) {
    request_.mutable_value()->resize(value_bytes);
    // Bytes that neither side could compress.
    uint32_t noise = 1;
    for (char& byte : *request_.mutable_value()) {
      noise = noise * 1664525 + 1013904223;
      byte = static_cast<char>(noise >> 24);
    }
  }

  void write() {
    context_.emplace();
    context_->set_deadline(std::chrono::system_clock::now() + kWriteDeadline);
    const uint64_t key = shared_.next_key.fetch_add(1, std::memory_order_relaxed) % kKeys;
    request_.set_key(fmt::format("bench/{:08}", key));
    started_ = SteadyClock::now();
    stub_->async()->Put(&*context_, &request_, &response_,
                        [this](const grpc::Status& status) { written(status); });
  }
  const std::vector<float>& latencies_ms() const { return latencies_ms_; }

 private:
  void written(const grpc::Status& status) {
    if (status.ok() && shared_.measuring.load(std::memory_order_relaxed))
      latencies_ms_.push_back(static_cast<float>(ms(SteadyClock::now() - started_)));
    if (status.ok() && !shared_.ending.load(std::memory_order_relaxed)) {
      write();
      return;
    }
    const std::lock_guard lock(shared_.mutex);
    if (!status.ok() && !shared_.error) {
      shared_.error = Status(static_cast<StatusCode>(status.error_code()),
                             "a write failed: " + status.error_message());
    }
    --shared_.running;
    shared_.changed.notify_all();
  }

  Shared& shared_;
  std::unique_ptr<etcdserverpb::KV::Stub> stub_;
  std::optional<grpc::ClientContext> context_;
  etcdserverpb::PutRequest request_;
  etcdserverpb::PutResponse response_;
  SteadyClock::time_point started_;
  std::vector<float> latencies_ms_;
};

double percentile(const std::vector<float>& sorted, double share) {
  if (sorted.empty()) return 0;
  const auto at = static_cast<size_t>(share * static_cast<double>(sorted.size() - 1));
  return sorted[at];
}

}  // namespace

Result<PutFigures> run_put_load(const PutTarget& target, const PutLoad& load,
                                const std::function<void()>& measuring) {
  std::vector<std::shared_ptr<grpc::Channel>> channels;
  for (int i = 0; i < std::min(load.clients, kChannelsMax); ++i) {
    channels.push_back(connect(target));
    if (!channels.back()->WaitForConnected(std::chrono::system_clock::now() +
                                           std::chrono::seconds(10)))
      return fail(unavailable("cannot connect to {}", target.address));
  }
  Shared shared;
  std::vector<std::unique_ptr<Writer>> writers;
  for (int i = 0; i < load.clients; ++i) {
    writers.push_back(std::make_unique<Writer>(
        shared, channels[static_cast<size_t>(i) % channels.size()], load.value_bytes));
  }
  shared.running = load.clients;
  for (const auto& writer : writers) writer->write();

  std::unique_lock lock(shared.mutex);
  const auto troubled = [&] { return shared.error.has_value(); };
  shared.changed.wait_for(lock, load.warm_up, troubled);
  measuring();
  const Duration cpu_before = own_cpu_time();
  const auto began = SteadyClock::now();
  shared.measuring = true;
  shared.changed.wait_for(lock, load.measured, troubled);
  shared.measuring = false;
  const auto elapsed = SteadyClock::now() - began;
  const Duration cpu = own_cpu_time() - cpu_before;
  measuring();
  shared.ending = true;
  shared.changed.wait(lock, [&] { return shared.running == 0; });
  if (shared.error) return fail(*shared.error);

  std::vector<float> all;
  for (const auto& writer : writers)
    all.insert(all.end(), writer->latencies_ms().begin(), writer->latencies_ms().end());
  std::sort(all.begin(), all.end());
  const double seconds = std::chrono::duration<double>(elapsed).count();
  PutFigures figures;
  figures.writes = all.size();
  figures.elapsed = elapsed;
  figures.per_s = static_cast<double>(all.size()) / seconds;
  figures.p50_ms = percentile(all, 0.5);
  figures.p99_ms = percentile(all, 0.99);
  figures.max_ms = percentile(all, 1);
  figures.client_cores = std::chrono::duration<double>(cpu).count() / seconds;
  return figures;
}

Result<MemberStatus> ask_status(const PutTarget& target, Duration timeout) {
  const auto stub = etcdserverpb::Maintenance::NewStub(connect(target));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::duration_cast<std::chrono::microseconds>(timeout));
  context.set_wait_for_ready(true);
  etcdserverpb::StatusResponse response;
  const grpc::Status status = stub->Status(&context, {}, &response);
  if (!status.ok())
    return fail(Status(static_cast<StatusCode>(status.error_code()), status.error_message()));
  return MemberStatus{response.header().member_id(), response.leader()};
}

}  // namespace muster::bench
