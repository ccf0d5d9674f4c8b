#include "raft/transport/grpc/inbound_snapshot.h"

#include <grpcpp/support/proto_buffer_reader.h>

#include <mutex>
#include <optional>
#include <utility>

#include "raft/transport/grpc/inbound.h"
#include "raft/transport/incoming_snapshot.h"

namespace muster::raft {
namespace {

grpc::Status to_grpc(const Status& status) {
  return {static_cast<grpc::StatusCode>(status.code()), status.message()};
}

// One part is read, taken on the disk's thread, and only then the next is asked for: the sender
// waits for the disk, and a part waits nowhere.
class SnapshotCall final : public grpc::ServerReadReactor<grpc::ByteBuffer> {
 public:
  // What others hold of the call. Its reads, its end and its time-out are in here, since they come
  // from three threads; the snapshot itself belongs to the disk's thread.
  class Handle final : public InboundSnapshot, public std::enable_shared_from_this<Handle> {
   public:
    Handle(SnapshotCall* call, grpc::CallbackServerContext* context,
           std::shared_ptr<Inbound> inbound, security::Principal caller)
        : inbound_(std::move(inbound)),
          caller_(std::move(caller)),
          call_(call),
          context_(context) {}

    void part(const std::optional<Notice>&, const grpc::Status& status) override {
      finish(status.ok() ? grpc::Status(grpc::StatusCode::UNAVAILABLE, "the process ends")
                         : status);
    }
    void cancel() override {
      std::lock_guard lock(mutex_);
      if (call_ != nullptr) context_->TryCancel();
    }
    void give_way() override {
      drop();
      finish({grpc::StatusCode::ABORTED, "another snapshot took its place"});
    }
    // Disk thread: a snapshot that is not whole is forgotten, and nothing more is taken.
    void drop() {
      over_ = true;
      body_.reset();
    }
    void finish(const grpc::Status& status) {
      std::lock_guard lock(mutex_);
      if (call_ == nullptr || std::exchange(finished_, true)) return;
      call_->Finish(status);
    }
    // Asks for the next part and gives it its time.
    void read() {
      std::lock_guard lock(mutex_);
      if (call_ == nullptr || finished_) return;
      const uint64_t number = ++reads_;
      timer_ =
          core().work.after(core().options.snapshot_part_max, [weak = weak_from_this(), number] {
            if (const auto self = weak.lock()) self->overdue(number);
          });
      call_->StartRead(&call_->incoming_);
    }
    // What arrived, or null: nothing more comes. On a thread of gRPC's.
    void arrived(std::optional<grpc::ByteBuffer> bytes) {
      {
        std::lock_guard lock(mutex_);
        ++reads_;
        core().work.cancel(timer_);
      }
      // If the disk's thread is stopped before its turn, the call ends all the same.
      auto unless = std::make_unique<EndUnlessTaken>(shared_from_this());
      core().disk.post([unless = std::move(unless), bytes = std::move(bytes)]() mutable {
        const std::shared_ptr<Handle> self = unless->take();
        if (bytes) {
          self->take(*bytes);
        } else {
          self->drop();
          self->finish({grpc::StatusCode::CANCELLED, "the snapshot was cut off"});
        }
      });
    }
    void detach() {
      std::lock_guard lock(mutex_);
      call_ = nullptr;
    }
    TransportCore& core() const { return *inbound_->core(); }
    Inbound& inbound() const { return *inbound_; }

   private:
    struct EndUnlessTaken {
      explicit EndUnlessTaken(std::shared_ptr<Handle> the_handle) : handle(std::move(the_handle)) {}
      ~EndUnlessTaken() {
        if (handle) handle->finish({grpc::StatusCode::UNAVAILABLE, "the process ends"});
      }
      std::shared_ptr<Handle> take() { return std::exchange(handle, nullptr); }
      std::shared_ptr<Handle> handle;
    };

    void overdue(uint64_t number) {
      {
        std::lock_guard lock(mutex_);
        if (number != reads_) return;
      }
      finish({grpc::StatusCode::DEADLINE_EXCEEDED, "the next part did not come in time"});
    }

    // Disk thread from here on.
    void take(grpc::ByteBuffer& bytes) {
      if (over_) return;
      grpc::ProtoBufferReader reader(&bytes);
      Result<SnapshotPart> part = decode_part(reader, body_ == nullptr);
      if (!part) return end(to_grpc(part.error()));
      if (body_ == nullptr) {
        if (const grpc::Status begun = begin(*part); !begun.ok()) return end(begun);
      }
      const Result<bool> whole = body_->take(*part);
      if (!whole) return end(to_grpc(whole.error()));
      if (!*whole) return read();
      core().log->info("snapshot up to {} of member {:x} arrived, {} bytes",
                       announcement_.snapshot.index, announcement_.from.value, body_->bytes());
      drop();
      core().gate.tell([&](TransportEvents& events) { events.received(std::move(announcement_)); });
      finish(grpc::Status::OK);
    }
    grpc::Status begin(SnapshotPart& part) {
      const Admission admission = inbound_->let_in(*part.hello, caller_, shared_from_this());
      if (admission.verdict != Verdict::kAccept) return refusal_status(admission);
      announcement_ = *std::move(part.message);
      const MemberId from = part.hello->from;
      if (!inbound_->begin_snapshot(from, announcement_.term, shared_from_this())) {
        return {grpc::StatusCode::ABORTED, "a newer snapshot is arriving"};
      }
      Result<std::unique_ptr<SnapshotWriter>> writer =
          fail(StatusCode::kUnavailable, "the process ends");
      core().gate.tell(
          [&](TransportEvents& events) { writer = events.snapshot_arrives(announcement_); });
      if (!writer) return to_grpc(writer.error());
      body_ = std::make_unique<IncomingSnapshot>(*std::move(writer));
      return grpc::Status::OK;
    }
    void end(const grpc::Status& status) {
      drop();
      core().log->warn("a snapshot of node {} was not taken: {}", caller_.node_id,
                       status.error_message());
      finish(status);
    }

    const std::shared_ptr<Inbound> inbound_;
    const security::Principal caller_;
    std::unique_ptr<IncomingSnapshot> body_;  // disk thread
    bool over_ = false;                       // disk thread
    Message announcement_;                    // disk thread

    std::mutex mutex_;
    SnapshotCall* call_;
    grpc::CallbackServerContext* context_;
    bool finished_ = false;
    uint64_t reads_ = 0;
    Executor::TimerId timer_ = 0;
  };

  SnapshotCall(std::shared_ptr<Inbound> inbound, grpc::CallbackServerContext& context,
               security::Principal caller)
      : handle_(std::make_shared<Handle>(this, &context, std::move(inbound), std::move(caller))) {
    handle_->core().streams.enter();
    handle_->read();
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      handle_->arrived(std::nullopt);
      return;
    }
    handle_->arrived(std::move(incoming_));
    incoming_ = grpc::ByteBuffer();
  }
  void OnDone() override {
    handle_->detach();
    handle_->inbound().leave(handle_);
    // Ended between two parts, by this side: what there is of it goes where it was written.
    handle_->core().disk.post([handle = handle_] { handle->drop(); });
    handle_->core().streams.leave();
    delete this;
  }

 private:
  const std::shared_ptr<Handle> handle_;
  grpc::ByteBuffer incoming_;
};

}  // namespace

grpc::ServerReadReactor<grpc::ByteBuffer>* answer_snapshot(std::shared_ptr<Inbound> inbound,
                                                           grpc::CallbackServerContext& context,
                                                           security::Principal caller) {
  return new SnapshotCall(std::move(inbound), context, std::move(caller));
}

}  // namespace muster::raft
