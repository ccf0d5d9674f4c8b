#include "raft/transport/grpc/lane.h"

#include <grpcpp/client_context.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/support/client_callback.h>
#include <grpcpp/support/proto_buffer_reader.h>

#include <algorithm>
#include <utility>

namespace muster::raft {
namespace {

constexpr const char* kMethod = "/muster.v1.Raft/Lane";
// How long a lane that was ended may take to say so.
constexpr Duration kEndMax = 1s;
// Different reasons why a lane cannot be opened that are remembered; more than a dead link has.
constexpr size_t kComplaintsMax = 8;

}  // namespace

bool is_sudden(const grpc::Status& status) {
  return status.error_code() == grpc::StatusCode::UNAVAILABLE &&
         status.error_message().find("GOAWAY") == std::string::npos;
}

// One call. Its fields are the lane's, under the lane's lock, but for the buffers that gRPC uses
// while an operation is under way. Lives until gRPC is done with it.
class Lane::Stream final : public grpc::ClientBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  Stream(std::shared_ptr<Lane> lane, std::shared_ptr<grpc::Channel> channel)
      : lane_(std::move(lane)), channel_(std::move(channel)), stub_(channel_) {
    lane_->core_->streams.enter();
  }

  void begin(std::shared_ptr<Stream> self) {
    self_ = std::move(self);
    stub_.PrepareBidiStreamingCall(&context_, kMethod, grpc::StubOptions(), this);
    AddHold();  // writes come from outside of reactions
    StartRead(&incoming_);
    StartCall();
  }
  void write(grpc::ByteBuffer frame, bool last) {
    outgoing_ = std::move(frame);
    if (last) {
      StartWriteLast(&outgoing_, grpc::WriteOptions());
    } else {
      StartWrite(&outgoing_);
    }
  }
  grpc::ClientContext& context() { return context_; }
  const grpc::ClientContext& context() const { return context_; }

  void OnWriteDone(bool ok) override {
    outgoing_.Clear();
    std::unique_lock lock(lane_->mutex_);
    writing = false;
    if (!ok) broken = true;
    if (ok) lane_->full_ = false;
    lane_->release_if_over(*this);
    if (ok) lane_->pump(std::move(lock));
  }
  void OnReadDone(bool ok) override {
    if (!ok) {
      std::lock_guard lock(lane_->mutex_);
      broken = true;
      lane_->release_if_over(*this);
      return;
    }
    grpc::ProtoBufferReader reader(&incoming_);
    if (const auto notice = decode_notice(reader); notice && *notice) {
      lane_->on_notice(*this, **notice);
    }
    incoming_.Clear();
    StartRead(&incoming_);
  }
  void OnDone(const grpc::Status& status) override {
    std::shared_ptr<Stream> self = std::move(self_);
    lane_->on_done(*this, status);
    // gRPC's threads end with the process's last channel, which therefore must not go on one of
    // them.
    const std::shared_ptr<TransportCore> core = lane_->core_;
    core->work.post([self = std::move(self)] {});
    core->streams.leave();
  }

  TimePoint began;
  bool greeted = false;  // the hello was written
  bool ready = false;    // and accepted
  bool writing = false;
  bool broken = false;   // nothing more can be written
  bool over = false;     // the last frame was written, or is being
  bool carried = false;  // messages, which may not have arrived
  bool released = false;

 private:
  const std::shared_ptr<Lane> lane_;
  const std::shared_ptr<grpc::Channel> channel_;
  grpc::GenericStub stub_;
  grpc::ClientContext context_;
  std::shared_ptr<Stream> self_;
  grpc::ByteBuffer incoming_;
  grpc::ByteBuffer outgoing_;
};

Lane::Lane(std::shared_ptr<TransportCore> core, MemberId peer, std::string node_id,
           std::string address, std::string_view name)
    : core_(std::move(core)),
      peer_(peer),
      node_id_(std::move(node_id)),
      address_(std::move(address)),
      name_(name),
      queue_(core_->options.lane),
      backoff_(core_->options.redial_first, core_->options.redial_max),
      patience_(core_->options.connect_first) {}

void Lane::start() {
  core_->work.post([self = shared_from_this()] { self->dial(); });
}

void Lane::send(Message message) {
  std::lock_guard lock(mutex_);
  if (ending_ || queue_.push(std::move(message))) return;
  if (!std::exchange(full_, true)) core_->unreachable(peer_);
}

void Lane::flush() {
  std::unique_lock lock(mutex_);
  pump(std::move(lock));
}

void Lane::end(bool goodbye) {
  std::unique_lock lock(mutex_);
  if (std::exchange(ending_, true)) return;
  goodbye_ = goodbye;
  if (!goodbye) queue_.clear();
  core_->work.after(kEndMax, [self = shared_from_this()] { self->cancel(); });
  pump(std::move(lock));
}

void Lane::cancel() {
  std::lock_guard lock(mutex_);
  ending_ = true;
  if (stream_ != nullptr) stream_->context().TryCancel();
}

void Lane::dial() {
  Duration connect_max{};
  {
    std::lock_guard lock(mutex_);
    if (ending_ || stream_ != nullptr) return;
    connect_max = patience_;
  }
  const auto stream = std::make_shared<Stream>(shared_from_this(),
                                               core_->channels(address_, node_id_, connect_max));
  std::unique_lock lock(mutex_);
  if (ending_) {
    core_->streams.leave();
    return;
  }
  stream_ = stream;
  stream->began = core_->work.clock().now();
  // The call may not be written to before it began; nobody else sees the stream until then.
  stream->begin(stream);
  pump(std::move(lock));
}

// Everything that waits goes into one frame, unless a write is under way: then it goes into the
// next.
void Lane::pump(std::unique_lock<std::mutex> lock) {
  const std::shared_ptr<Stream> stream = stream_;
  if (stream == nullptr || stream->writing || stream->broken || stream->over) return;
  if (queue_.empty() && stream->greeted && !ending_) return;
  const bool greets = !std::exchange(stream->greeted, true);
  const std::vector<Message> messages = queue_.take_frame();
  const bool last = ending_ && queue_.empty();
  const bool goodbye = last && goodbye_;
  stream->writing = true;
  stream->over = last;
  if (!messages.empty()) stream->carried = true;
  lock.unlock();
  const Hello hello = core_->hello(peer_);
  stream->write(to_buffer(encode_frame(greets ? &hello : nullptr, messages, goodbye)), last);
}

void Lane::release_if_over(Stream& stream) {
  if (stream.writing || (!stream.broken && !stream.over)) return;
  if (!std::exchange(stream.released, true)) stream.RemoveHold();
}

void Lane::on_notice(Stream& stream, const Notice& notice) {
  switch (notice.kind) {
    case NoticeKind::kReady: {
      {
        std::lock_guard lock(mutex_);
        stream.ready = true;
        backoff_.reset();
        patience_ = core_->options.connect_first;
        complaints_.clear();
      }
      core_->established(peer_);
      core_->log->debug("{} lane to member {:x} at {} is open", name_, peer_.value, address_);
      break;
    }
    case NoticeKind::kGoodbye: core_->goodbye(peer_); break;
    case NoticeKind::kRemoved:
      complain(notice.message);
      core_->removed(peer_);
      break;
    case NoticeKind::kWrongCluster:
    case NoticeKind::kWrongMember: complain(notice.message); break;
  }
}

void Lane::on_done(const Stream& stream, const grpc::Status& status) {
  bool was_ready = false;
  bool lost = false;
  Duration wait{};
  {
    std::lock_guard lock(mutex_);
    if (stream_.get() == &stream) stream_.reset();
    lost = queue_.clear() > 0 || stream.carried;
    full_ = false;
    if (ending_) return;
    was_ready = stream.ready;
    // Whoever says no at once needs no more time to do so.
    const Duration took = core_->work.clock().now() - stream.began;
    if (!was_ready && took >= patience_ - patience_ / 8) {
      patience_ = std::min(2 * patience_, core_->options.connect_max);
    }
    wait = backoff_.next();
  }
  if (!status.ok() && status.error_code() != grpc::StatusCode::CANCELLED) {
    complain(status.error_message());
  }
  if (was_ready || lost) core_->unreachable(peer_);
  if (was_ready && is_sudden(status)) core_->lost(peer_, address_);
  core_->work.after(wait, [self = shared_from_this()] { self->dial(); });
}

void Lane::complain(const std::string& what) {
  {
    std::lock_guard lock(mutex_);
    if (complaints_.count(what) > 0) return;
    if (complaints_.size() >= kComplaintsMax) complaints_.clear();
    complaints_.insert(what);
  }
  core_->log->warn("{} lane to member {:x} at {}: {}", name_, peer_.value, address_, what);
}

}  // namespace muster::raft
