#include "manager/control/grpc/logs_relay.h"

#include <mutex>
#include <utility>

namespace muster::manager::control {
namespace {

// A subscription may be followed for as long as the client likes.
constexpr Duration kFollowLimit = 24h * 365;

// Reading from the leader and writing to the client take turns, on gRPC's threads. The upstream
// ends first, always: what the client does only cancels it.
class Relay final : public grpc::ServerWriteReactor<v1::ServiceLogsResponse> {
 public:
  Relay(std::shared_ptr<grpc::Channel> channel, grpc::CallbackServerContext* context,
        const security::Principal& caller, const v1::ServiceLogsRequest* request)
      : context_(context),
        stub_(v1::Control::NewStub(std::move(channel))),
        outgoing_(LeaderLink::pass_on(*context, caller, kFollowLimit)),
        upstream_(*this) {
    stub_->async()->ServiceLogs(outgoing_.get(), request, &upstream_);
    upstream_.StartRead(&message_);
    upstream_.StartCall();
  }

  void OnWriteDone(bool ok) override {
    {
      std::lock_guard lock(mutex_);
      writing_ = false;
      if (!ended_) {
        if (!ok) outgoing_->TryCancel();
        // After a failed one the end follows.
        upstream_.StartRead(&message_);
        return;
      }
    }
    finish();
  }
  void OnCancel() override { outgoing_->TryCancel(); }
  void OnDone() override { delete this; }

 private:
  class Upstream final : public grpc::ClientReadReactor<v1::ServiceLogsResponse> {
   public:
    explicit Upstream(Relay& relay) : relay_(relay) {}
    void OnReadDone(bool ok) override {
      if (ok) relay_.arrived();
    }
    void OnDone(const grpc::Status& status) override { relay_.ended(status); }

   private:
    Relay& relay_;
  };

  void arrived() {
    std::lock_guard lock(mutex_);
    writing_ = true;
    StartWrite(&message_);
  }
  // Nothing of the upstream is touched afterwards: finishing may delete it.
  void ended(const grpc::Status& status) {
    {
      std::lock_guard lock(mutex_);
      ended_ = true;
      outcome_ = status.ok() ? ok_status() : LeaderLink::read_status(status, *outgoing_);
      if (writing_) return;
    }
    finish();
  }
  void finish() {
    add_reason(*context_, outcome_);
    Finish(to_grpc(outcome_));
  }

  grpc::CallbackServerContext* const context_;
  const std::unique_ptr<v1::Control::Stub> stub_;
  const std::unique_ptr<grpc::ClientContext> outgoing_;
  Upstream upstream_;
  std::mutex mutex_;
  v1::ServiceLogsResponse message_;
  bool writing_ = false;
  bool ended_ = false;
  Status outcome_;
};

class Refusal final : public grpc::ServerWriteReactor<v1::ServiceLogsResponse> {
 public:
  void OnDone() override { delete this; }
};

}  // namespace

grpc::ServerWriteReactor<v1::ServiceLogsResponse>* make_logs_relay(
    const CallScope& scope, const std::string& address, grpc::CallbackServerContext* context,
    const security::Principal& caller, const v1::ServiceLogsRequest* request) {
  auto channel = scope.link.channel(address);
  if (channel == nullptr) return nullptr;
  return new Relay(std::move(channel), context, caller, request);
}

grpc::ServerWriteReactor<v1::ServiceLogsResponse>* make_logs_refusal(
    grpc::CallbackServerContext* context,
    const std::function<void(UniqueFunction<void(Status)>)>& why) {
  auto* refusal = new Refusal;
  why([context, refusal](const Status& status) {
    add_reason(*context, status);
    refusal->Finish(to_grpc(status));
  });
  return refusal;
}

}  // namespace muster::manager::control
