#include "raft/transport/grpc/snapshot_queue.h"

#include <grpcpp/client_context.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/support/client_callback.h>

#include <algorithm>
#include <utility>

#include "base/crc32c.h"

namespace muster::raft {
namespace {

constexpr const char* kMethod = "/muster.v1.Raft/Snapshot";
// The smallest part, however low the rate is.
constexpr size_t kPartMin = 16 << 10;

// A part is sent in a second or less, so that the receiver never waits for one longer than that.
size_t part_bytes(const GrpcTransportOptions& options) {
  if (options.snapshot_bytes_per_s == 0) return options.snapshot_part_bytes;
  return std::min<uint64_t>(options.snapshot_part_bytes,
                            std::max<uint64_t>(kPartMin, options.snapshot_bytes_per_s));
}

}  // namespace

// One snapshot to one member: read a part (disk thread), wait for the rate, write it, again. On the
// work strand, but for what gRPC needs at once: whether the call may be let go of is under a lock,
// so that it is even when the strand has stopped.
class SnapshotQueue::Sender final
    : public grpc::ClientBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>,
      public std::enable_shared_from_this<Sender> {
 public:
  Sender(std::shared_ptr<SnapshotQueue> queue, Job job)
      : queue_(std::move(queue)),
        core_(queue_->core_),
        to_(job.message.to),
        part_bytes_(part_bytes(core_->options)),
        message_(std::move(job.message)),
        body_(std::move(job.body)),
        channel_(core_->channels(core_->address_of(to_), core_->node_of(to_),
                                 core_->options.connect_max)),
        stub_(channel_) {
    core_->streams.enter();
  }

  void begin() {
    self_ = shared_from_this();
    // As a stream both ways: on the wire a call with one answer is the same.
    stub_.PrepareBidiStreamingCall(&context_, kMethod, grpc::StubOptions(), this);
    AddHold();
    StartRead(&incoming_);
    StartCall();
    read_part();
  }
  // Ends it; nothing is told of it if `silent`.
  void abandon(bool silent) {
    if (silent) abandoned_ = true;
    stop(unavailable("member {:x} is no member any more", to_.value));
  }

  void OnWriteDone(bool ok) override {
    outgoing_.Clear();
    release(true, !ok);
    core_->work.post([self = shared_from_this(), ok] { self->written(ok); });
  }
  void OnReadDone(bool ok) override {
    // The answer; what follows is the status.
    if (!ok) {
      release(false, true);
      return;
    }
    incoming_.Clear();
    StartRead(&incoming_);
  }
  void OnDone(const grpc::Status& status) override {
    // The channel goes on the work strand; see Lane::Stream.
    std::shared_ptr<Sender> self = std::move(self_);
    const std::shared_ptr<TransportCore> core = core_;
    core->work.post([self = std::move(self), status] { self->done(status); });
    core->streams.leave();
  }

 private:
  // Lets go of the call once nothing more is written to it.
  void release(bool written, bool over) {
    std::lock_guard lock(mutex_);
    if (written) writing_ = false;
    if (over) over_ = true;
    if (over_ && !writing_ && !std::exchange(released_, true)) RemoveHold();
  }

  void stop(Status why) {
    if (failure_.ok()) failure_ = std::move(why);
    core_->work.cancel(timer_);
    context_.TryCancel();
    release(false, true);
  }

  void read_part() {
    core_->disk.post([self = shared_from_this()] {
      Result<std::string> part = self->read_on_disk();
      self->core_->work.post(
          [self, part = std::move(part)]() mutable { self->send_when_due(std::move(part)); });
    });
  }

  // Whole parts, whatever the pieces of the reader are; short only at the end.
  Result<std::string> read_on_disk() {
    while (!at_end_ && rest_.size() < part_bytes_) {
      MUSTER_ASSIGN(const std::string piece, body_->next());
      at_end_ = piece.empty();
      rest_ += piece;
    }
    std::string part = rest_.substr(0, part_bytes_);
    rest_.erase(0, part.size());
    return part;
  }

  void send_when_due(Result<std::string> part) {
    if (!failure_.ok()) return;
    if (!part) {
      stop(part.error());
      return;
    }
    const Duration wait = queue_->throttle_.take(core_->work.clock().now(), part->size());
    if (wait <= Duration::zero()) {
      send(*std::move(part));
      return;
    }
    timer_ =
        core_->work.after(wait, [self = shared_from_this(), part = *std::move(part)]() mutable {
          self->send(std::move(part));
        });
  }

  void send(std::string data) {
    if (!failure_.ok()) return;
    SnapshotPart part;
    if (sent_ == 0 && !std::exchange(greeted_, true)) {
      part.hello = core_->hello(to_);
      part.message = message_;
    }
    part.offset = sent_;
    part.crc = crc32c(data);
    // Nothing is short but the last; one that happens to be full is followed by an empty one.
    part.last = data.size() < part_bytes_;
    sent_ += data.size();
    part.data = std::move(data);
    const bool last = part.last;
    {
      std::lock_guard lock(mutex_);
      if (over_) return;  // the call has ended by itself; done() comes
      writing_ = true;
      if (last) over_ = true;
    }
    finished_ = last;
    outgoing_ = to_buffer(encode_part(std::move(part)));
    arm(core_->options.snapshot_part_max, "a part was not taken in time");
    if (last) {
      StartWriteLast(&outgoing_, grpc::WriteOptions());
    } else {
      StartWrite(&outgoing_);
    }
  }

  void written(bool ok) {
    core_->work.cancel(timer_);
    if (!failure_.ok() || !ok) return;
    if (finished_) {
      arm(core_->options.snapshot_finish_max, "the snapshot was not stored in time");
    } else {
      read_part();
    }
  }

  void arm(Duration limit, const char* what) {
    timer_ = core_->work.after(limit, [self = shared_from_this(), what] {
      self->stop(Status(StatusCode::kDeadlineExceeded, what));
    });
  }

  void done(const grpc::Status& status) {
    core_->work.cancel(timer_);
    Status outcome = failure_;
    if (outcome.ok() && !status.ok()) {
      outcome = Status(static_cast<StatusCode>(status.error_code()), status.error_message());
    }
    if (outcome.ok() && !finished_) outcome = unavailable("the member ended the call early");
    if (failure_.ok()) failure_ = unavailable("the call is over");
    // The reader goes where it was used, after whatever is being read.
    core_->disk.post([self = shared_from_this()] { self->body_.reset(); });
    if (!abandoned_) queue_->ended(to_, this, outcome);
  }

  const std::shared_ptr<SnapshotQueue> queue_;
  const std::shared_ptr<TransportCore> core_;
  const MemberId to_;
  const size_t part_bytes_;
  const Message message_;

  // Disk thread.
  std::unique_ptr<SnapshotReader> body_;
  std::string rest_;
  bool at_end_ = false;

  // Work strand.
  bool abandoned_ = false;
  bool greeted_ = false;
  bool finished_ = false;  // the last part was written
  Status failure_;         // of this side
  uint64_t sent_ = 0;
  Executor::TimerId timer_ = 0;

  std::mutex mutex_;
  bool writing_ = false;
  bool over_ = false;
  bool released_ = false;

  const std::shared_ptr<grpc::Channel> channel_;
  grpc::GenericStub stub_;
  grpc::ClientContext context_;
  grpc::ByteBuffer incoming_;
  grpc::ByteBuffer outgoing_;
  std::shared_ptr<Sender> self_;  // until OnDone()
};

SnapshotQueue::SnapshotQueue(std::shared_ptr<TransportCore> core)
    : core_(std::move(core)), throttle_(core_->options.snapshot_bytes_per_s) {}

void SnapshotQueue::submit(Message message, std::unique_ptr<SnapshotReader> body) {
  core_->work.post(
      [self = shared_from_this(), job = Job{std::move(message), std::move(body)}]() mutable {
        self->add(std::move(job));
      });
}

void SnapshotQueue::add(Job job) {
  if (stopped_) return;
  const MemberId to = job.message.to;
  std::erase_if(waiting_, [&](const Job& other) { return other.message.to == to; });
  if (const auto former = active_.find(to); former != active_.end()) {
    former->second->abandon(true);
    active_.erase(former);
  }
  waiting_.push_back(std::move(job));
  begin_next();
}

void SnapshotQueue::begin_next() {
  while (!waiting_.empty() && active_.size() < core_->options.snapshots_max) {
    Job job = std::move(waiting_.front());
    waiting_.pop_front();
    const MemberId to = job.message.to;
    if (core_->address_of(to).empty()) {
      ended(to, nullptr, unavailable("member {:x} has no known address", to.value));
      continue;
    }
    core_->log->info("snapshot up to {} begins for member {:x}", job.message.snapshot.index,
                     to.value);
    const auto sender = std::make_shared<Sender>(shared_from_this(), std::move(job));
    active_[to] = sender;
    sender->begin();
  }
}

void SnapshotQueue::ended(MemberId to, const Sender* sender, const Status& status) {
  if (const auto found = active_.find(to);
      found != active_.end() && found->second.get() == sender) {
    active_.erase(found);
  }
  if (status.ok()) {
    core_->log->info("member {:x} has the snapshot", to.value);
  } else {
    core_->log->warn("snapshot for member {:x} failed: {}", to.value, status.message());
  }
  core_->gate.tell([&](TransportEvents& events) { events.snapshot_sent(to, status); });
  if (sender != nullptr) begin_next();
}

void SnapshotQueue::abandon(MemberId to) {
  std::erase_if(waiting_, [&](const Job& job) { return job.message.to == to; });
  if (const auto found = active_.find(to); found != active_.end()) found->second->abandon(false);
}

void SnapshotQueue::abandon_all() {
  stopped_ = true;
  waiting_.clear();
  for (const auto& [to, sender] : active_) sender->abandon(true);
  active_.clear();
}

}  // namespace muster::raft
