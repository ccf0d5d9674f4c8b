#include "agent/session/grpc/grpc_link.h"

#include <grpcpp/support/client_callback.h>

#include <deque>
#include <mutex>
#include <utility>

#include "agent/session/grpc/manager_channel.h"
#include "base/grpc/callback_threads.h"
#include "muster/v1/dispatcher.grpc.pb.h"

namespace muster::agent {
namespace {

// The session gives an attempt up earlier, by its own count of how many came to nothing.
constexpr Duration kConnectMax = 20s;

// Shared between gRPC, which lets go in OnDone, and the link, which lets go when it is destroyed
// (abandon); after either nothing is written, after abandon() no event is posted.
class Stream final : public grpc::ClientBidiReactor<v1::AgentMessage, v1::ManagerMessage> {
 public:
  Stream(Executor& strand, std::shared_ptr<LinkEvents> events)
      : strand_(strand), events_(std::move(events)) {}

  void begin(std::shared_ptr<Stream> self, v1::Dispatcher::Stub& stub) {
    self_ = std::move(self);
    stub.async()->Session(&context_, this);
    // Held until the writing side is closed, so that writes may come from outside of reactions.
    AddHold();
    StartRead(&incoming_);
    StartCall();
  }

  void send(const v1::AgentMessage& message) {
    std::lock_guard lock(mutex_);
    if (closing_) return;
    queue_.push_back(message);
    if (queue_.size() == 1) StartWrite(&queue_.front());
  }

  void close_after_writes() {
    std::lock_guard lock(mutex_);
    if (std::exchange(closing_, true)) return;
    if (queue_.empty()) half_close();
  }

  // The link is gone: no more events; the call ends as soon as gRPC lets it.
  void abandon() {
    {
      std::lock_guard lock(mutex_);
      events_.reset();
      if (!std::exchange(closing_, true) && queue_.empty()) half_close();
    }
    context_.TryCancel();
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      close_after_writes();
      return;
    }
    std::shared_ptr<LinkEvents> events = listeners();
    if (events) {
      auto message = std::make_shared<v1::ManagerMessage>(std::move(incoming_));
      strand_.post([events = std::weak_ptr<LinkEvents>(events), message] {
        if (const auto live = events.lock()) live->received(std::move(*message));
      });
    }
    incoming_.Clear();
    StartRead(&incoming_);
  }

  void OnWriteDone(bool ok) override {
    std::lock_guard lock(mutex_);
    queue_.pop_front();
    if (!ok) {
      queue_.clear();
      closing_ = true;
    }
    if (!queue_.empty()) {
      StartWrite(&queue_.front());
    } else if (closing_) {
      half_close();
    }
  }

  void OnDone(const grpc::Status& status) override {
    const std::shared_ptr<Stream> self = std::move(self_);
    if (const std::shared_ptr<LinkEvents> events = listeners()) {
      const Status why =
          status.ok()
              ? Status(StatusCode::kUnavailable, "the manager closed the session")
              : Status(static_cast<StatusCode>(status.error_code()), status.error_message());
      strand_.post([events = std::weak_ptr<LinkEvents>(events), why] {
        if (const auto live = events.lock()) live->closed(why);
      });
    }
  }

 private:
  std::shared_ptr<LinkEvents> listeners() {
    std::lock_guard lock(mutex_);
    return events_;
  }
  void half_close() {  // with the lock held
    if (std::exchange(released_, true)) return;
    StartWritesDone();
    RemoveHold();
  }

  Executor& strand_;
  std::shared_ptr<Stream> self_;
  grpc::ClientContext context_;
  std::mutex mutex_;
  std::shared_ptr<LinkEvents> events_;
  std::deque<v1::AgentMessage> queue_;
  bool closing_ = false;
  bool released_ = false;
  v1::ManagerMessage incoming_;
};

class GrpcLink final : public ManagerLink {
 public:
  GrpcLink(Executor& strand, std::unique_ptr<v1::Dispatcher::Stub> stub, LinkEvents events)
      : events_(std::make_shared<LinkEvents>(std::move(events))),
        stub_(std::move(stub)),
        stream_(std::make_shared<Stream>(strand, events_)) {
    stream_->begin(stream_, *stub_);
  }
  ~GrpcLink() override { stream_->abandon(); }

  void send(const v1::AgentMessage& message) override { stream_->send(message); }
  void close_after_writes() override { stream_->close_after_writes(); }

 private:
  // The stream holds it too, but posts it weakly: once the link is gone no event runs.
  std::shared_ptr<LinkEvents> events_;
  std::unique_ptr<v1::Dispatcher::Stub> stub_;
  std::shared_ptr<Stream> stream_;
};

class GrpcLinkFactory final : public LinkFactory {
 public:
  GrpcLinkFactory(Executor& strand, CredentialsNow credentials)
      : strand_(strand), credentials_(std::move(credentials)) {
    keep_callback_threads();
  }

  std::unique_ptr<ManagerLink> open(const std::string& address, LinkEvents events) override {
    auto channel =
        open_channel(address, credentials_, security::manager_channel_arguments(kConnectMax));
    return std::make_unique<GrpcLink>(strand_, v1::Dispatcher::NewStub(std::move(channel)),
                                      std::move(events));
  }

 private:
  Executor& strand_;
  CredentialsNow credentials_;
};

}  // namespace

std::unique_ptr<LinkFactory> make_grpc_link_factory(Executor& strand, CredentialsNow credentials) {
  return std::make_unique<GrpcLinkFactory>(strand, std::move(credentials));
}

}  // namespace muster::agent
