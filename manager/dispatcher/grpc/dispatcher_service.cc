#include "manager/dispatcher/grpc/dispatcher_service.h"

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <deque>
#include <mutex>
#include <optional>
#include <utility>

#include "base/security/tls/credentials.h"
#include "manager/control/access.h"
#include "muster/v1/dispatcher.grpc.pb.h"

namespace muster::manager::dispatcher {
namespace {

// The bytes of a shared message as a slice, without copying them.
grpc::ByteBuffer share(const Bytes& message) {
  auto* keep = new Bytes(message);
  const grpc::Slice slice(
      const_cast<char*>(message->data()), message->size(),
      [](void* owner) { delete static_cast<Bytes*>(owner); }, keep);
  return grpc::ByteBuffer(&slice, 1);
}

// One stream. Writes are queued under a lock since gRPC's threads finish them; everything else of
// the session runs on the strand. Lives until gRPC and the strand have both let go of it.
class Stream final : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  // What the dispatcher holds: it may outlive the reactor, which gRPC deletes.
  class Connection final : public AgentConnection {
   public:
    explicit Connection(Stream* stream) : stream_(stream) {}
    void send(Bytes message) override {
      std::lock_guard lock(mutex_);
      if (stream_ == nullptr || outcome_) return;
      bytes_ += message->size();
      queue_.push_back(std::move(message));
      if (!writing_) next();
    }
    void send_first(Bytes message) override {
      std::lock_guard lock(mutex_);
      if (stream_ == nullptr || outcome_) return;
      bytes_ += message->size();
      queue_.push_front(std::move(message));
      if (!writing_) next();
    }
    size_t queued_bytes() const override {
      std::lock_guard lock(mutex_);
      return bytes_;
    }
    void close() override {
      std::lock_guard lock(mutex_);
      end(grpc::Status::OK);
    }
    void written(bool ok) {
      std::lock_guard lock(mutex_);
      writing_ = false;
      if (!ok) {
        drop_queue();
        end(grpc::Status(grpc::StatusCode::UNAVAILABLE, "the stream broke"));
      }
      next();
    }
    // Ends the stream without what is still queued.
    void refuse(grpc::Status status) {
      std::lock_guard lock(mutex_);
      drop_queue();
      end(std::move(status));
    }
    void detach() {
      std::lock_guard lock(mutex_);
      stream_ = nullptr;
    }

   private:
    // All three with the lock held.
    void end(grpc::Status status) {
      if (!outcome_) outcome_ = std::move(status);
      if (!writing_) next();
    }
    void drop_queue() {
      queue_.clear();
      bytes_ = 0;
    }
    // One write at a time, and Finish after the last: gRPC may delete the stream as soon as it is
    // finished, so nothing is started on it afterwards.
    void next() {
      if (stream_ == nullptr || writing_ || finished_) return;
      if (!queue_.empty()) {
        bytes_ -= queue_.front()->size();
        outgoing_ = share(queue_.front());
        queue_.pop_front();
        writing_ = true;
        stream_->StartWrite(&outgoing_);
      } else if (outcome_) {
        finished_ = true;
        stream_->Finish(*outcome_);
      }
    }

    mutable std::mutex mutex_;
    Stream* stream_;
    std::deque<Bytes> queue_;
    size_t bytes_ = 0;
    bool writing_ = false;
    bool finished_ = false;
    std::optional<grpc::Status> outcome_;  // set: nothing more is queued
    grpc::ByteBuffer outgoing_;
  };

  Stream(Executor& strand, const std::function<Dispatcher*()>& current, security::Principal caller,
         std::string peer)
      : strand_(strand),
        connection_(std::make_shared<Connection>(this)),
        session_(std::make_shared<SessionSlot>()) {
    strand_.post([current, connection = connection_, slot = session_, caller = std::move(caller),
                  peer = std::move(peer)] {
      Dispatcher* dispatcher = current();
      if (dispatcher == nullptr) {
        connection->refuse({grpc::StatusCode::UNAVAILABLE, "this node is not a manager"});
        return;
      }
      slot->session = dispatcher->connect(caller.node_id, peer, connection, caller.manager);
    });
    StartRead(&incoming_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      connection_->refuse(grpc::Status::OK);
      return;
    }
    grpc::ProtoBufferReader reader(&incoming_);
    auto message = std::make_shared<v1::AgentMessage>();
    if (!message->ParseFromZeroCopyStream(&reader)) {
      connection_->refuse({grpc::StatusCode::INVALID_ARGUMENT, "not an AgentMessage"});
      return;
    }
    strand_.post([slot = session_, message] {
      if (slot->session) slot->session->received(*message);
    });
    incoming_.Clear();
    StartRead(&incoming_);
  }

  void OnWriteDone(bool ok) override { connection_->written(ok); }
  void OnCancel() override {
    connection_->refuse(grpc::Status(grpc::StatusCode::CANCELLED, "the agent is gone"));
  }

  void OnDone() override {
    connection_->detach();
    strand_.post([slot = session_] {
      if (slot->session) slot->session->closed();
      slot->session.reset();
    });
    delete this;
  }

 private:
  struct SessionSlot {
    std::shared_ptr<Dispatcher::Session> session;  // strand only
  };

  Executor& strand_;
  std::shared_ptr<Connection> connection_;
  std::shared_ptr<SessionSlot> session_;
  grpc::ByteBuffer incoming_;
};

class Refusal final : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  explicit Refusal(grpc::Status status) { Finish(std::move(status)); }
  void OnDone() override { delete this; }
};

class Service final
    : public v1::Dispatcher::WithRawCallbackMethod_Session<v1::Dispatcher::Service> {
 public:
  Service(Executor& strand, std::function<Dispatcher*()> current)
      : strand_(strand), current_(std::move(current)) {}

  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* Session(
      grpc::CallbackServerContext* context) override {
    const security::Principal caller = security::principal_of_tls(*context);
    const Status allowed = control::check_access("muster.v1.Dispatcher.Session", caller);
    if (!allowed.ok()) {
      return new Refusal({static_cast<grpc::StatusCode>(allowed.code()), allowed.message()});
    }
    return new Stream(strand_, current_, caller, context->peer());
  }

 private:
  Executor& strand_;
  std::function<Dispatcher*()> current_;
};

}  // namespace

std::unique_ptr<grpc::Service> make_dispatcher_service(Executor& strand,
                                                       std::function<Dispatcher*()> current) {
  return std::make_unique<Service>(strand, std::move(current));
}

}  // namespace muster::manager::dispatcher
