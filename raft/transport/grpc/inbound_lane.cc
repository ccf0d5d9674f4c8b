#include "raft/transport/grpc/inbound_lane.h"

#include <grpcpp/support/proto_buffer_reader.h>

#include <atomic>
#include <deque>
#include <mutex>
#include <optional>
#include <utility>

#include "raft/transport/grpc/inbound.h"

namespace muster::raft {
namespace {

class LaneCall final : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  // What others hold of the call: it may outlive the reactor, which gRPC lets go of.
  class Handle final : public InboundCall {
   public:
    Handle(LaneCall* call, grpc::CallbackServerContext* context) : call_(call), context_(context) {}

    void part(const std::optional<Notice>& notice, const grpc::Status& status) override {
      std::lock_guard lock(mutex_);
      if (call_ == nullptr || outcome_) return;
      if (notice) notices_.push_back(encode_notice(*notice));
      conclude(status);
      next();
    }
    void cancel() override {
      std::lock_guard lock(mutex_);
      if (call_ == nullptr) return;
      if (!outcome_) conclude({grpc::StatusCode::UNAVAILABLE, "the lane was ended"});
      context_->TryCancel();
      next();
    }
    void notify(const Notice& notice) {
      std::lock_guard lock(mutex_);
      if (call_ == nullptr || outcome_) return;
      notices_.push_back(encode_notice(notice));
      next();
    }
    // False: it was ended before, by this side.
    bool finish(grpc::Status status) {
      std::lock_guard lock(mutex_);
      if (call_ == nullptr || outcome_) return false;
      conclude(std::move(status));
      next();
      return true;
    }
    void written(bool ok) {
      std::lock_guard lock(mutex_);
      writing_ = false;
      if (!ok) {
        notices_.clear();
        if (!outcome_) conclude({grpc::StatusCode::UNAVAILABLE, "the lane broke"});
      }
      next();
    }
    // This side has ended it: who calls is not heard any more.
    bool concluded() const { return concluded_.load(std::memory_order_relaxed); }
    void detach() {
      std::lock_guard lock(mutex_);
      call_ = nullptr;
    }

   private:
    void conclude(grpc::Status outcome) {
      outcome_ = std::move(outcome);
      concluded_.store(true, std::memory_order_relaxed);
    }
    // With the lock held: one write at a time, Finish after the last and nothing after it, since
    // gRPC may let go of the call then.
    void next() {
      if (call_ == nullptr || writing_ || finished_) return;
      if (!notices_.empty()) {
        const grpc::Slice slice(notices_.front());
        notices_.pop_front();
        outgoing_ = grpc::ByteBuffer(&slice, 1);
        writing_ = true;
        call_->StartWrite(&outgoing_);
      } else if (outcome_) {
        finished_ = true;
        call_->Finish(*outcome_);
      }
    }

    std::mutex mutex_;
    LaneCall* call_;
    grpc::CallbackServerContext* context_;
    std::deque<std::string> notices_;
    std::optional<grpc::Status> outcome_;  // set: no more notices
    std::atomic<bool> concluded_{false};   // the same, for who has not the lock
    bool writing_ = false;
    bool finished_ = false;
    grpc::ByteBuffer outgoing_;
  };

  LaneCall(std::shared_ptr<Inbound> inbound, grpc::CallbackServerContext& context,
           security::Principal caller)
      : inbound_(std::move(inbound)),
        context_(context),
        caller_(std::move(caller)),
        handle_(std::make_shared<Handle>(this, &context)) {
    inbound_->core()->streams.enter();
    StartRead(&incoming_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      ended_by_caller_ = handle_->finish(grpc::Status::OK);
      return;
    }
    grpc::ProtoBufferReader reader(&incoming_);
    Result<Frame> frame = decode_frame(reader, hello_ ? &*hello_ : nullptr);
    incoming_.Clear();
    if (!frame) {
      inbound_->core()->log->warn("a lane from {} ends: {}", caller_.node_id,
                                  frame.error().message());
      handle_->finish({grpc::StatusCode::INVALID_ARGUMENT, frame.error().message()});
    } else if (!hello_ && !begin(*std::move(frame->hello))) {
      return;
    } else {
      take(*std::move(frame));
    }
    // After the end, too: the read tells when the caller is gone.
    StartRead(&incoming_);
  }
  void OnWriteDone(bool ok) override { handle_->written(ok); }

  void OnDone() override {
    handle_->detach();
    if (hello_ && ended_by_caller_ && !goodbye_ && context_.IsCancelled()) {
      inbound_->core()->lost(hello_->from, hello_->address);
    }
    inbound_->leave(handle_);
    inbound_->core()->streams.leave();
    delete this;
  }

 private:
  // False: the caller was refused.
  bool begin(Hello hello) {
    const Admission admission = inbound_->let_in(hello, caller_, handle_);
    if (admission.verdict != Verdict::kAccept) {
      // A process that ends is nothing to complain about.
      handle_->part(refusal_notice(admission), admission.verdict == Verdict::kStopping
                                                   ? grpc::Status::OK
                                                   : refusal_status(admission));
      return false;
    }
    hello_ = std::move(hello);
    handle_->notify({NoticeKind::kReady, {}});
    inbound_->core()->established(hello_->from);
    return true;
  }

  void take(Frame frame) {
    if (frame.malformed > 0 && !std::exchange(complained_, true)) {
      inbound_->core()->log->warn("{} messages of member {:x} cannot be and were dropped",
                                  frame.malformed, hello_->from.value);
    }
    for (Message& message : frame.messages) {
      if (handle_->concluded()) break;  // what was on its way when its sender was put out
      inbound_->core()->gate.tell(
          [&](TransportEvents& events) { events.received(std::move(message)); });
    }
    if (frame.goodbye) {
      goodbye_ = true;
      inbound_->core()->goodbye(hello_->from);
    }
  }

  const std::shared_ptr<Inbound> inbound_;
  grpc::CallbackServerContext& context_;
  const security::Principal caller_;
  const std::shared_ptr<Handle> handle_;
  // One reaction to reads at a time, and OnDone after the last.
  std::optional<Hello> hello_;  // accepted
  bool goodbye_ = false;
  bool complained_ = false;
  bool ended_by_caller_ = false;
  grpc::ByteBuffer incoming_;
};

}  // namespace

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* answer_lane(
    std::shared_ptr<Inbound> inbound, grpc::CallbackServerContext& context,
    security::Principal caller) {
  return new LaneCall(std::move(inbound), context, std::move(caller));
}

}  // namespace muster::raft
