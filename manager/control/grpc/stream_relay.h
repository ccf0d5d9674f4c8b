#pragma once

#include <grpcpp/support/server_callback.h>

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "manager/control/grpc/routed_call.h"

namespace muster::manager::control {

// A method of the leader's stub whose answer is a stream.
template <class Request, class Response>
using AskStream = void (v1::Control::StubInterface::async_interface::*)(
    grpc::ClientContext*, const Request*, grpc::ClientReadReactor<Response>*);

// What is particular about such a method.
template <class Request, class Response>
struct StreamRoute {
  AskStream<Request, Response> method = nullptr;
  // Whether the caller may ask, and why nobody can answer.
  Status (ControlApi::*allowed)(const Principal&) const = nullptr;
  Duration limit{};  // of the whole stream
};

// The call to one manager: one read at a time, asked for from outside of its reactions. gRPC lets
// go of it in OnDone, which waits until no further read can come: the hold.
template <class Request, class Response>
class Upstream final : public grpc::ClientReadReactor<Response> {
 public:
  struct Events {
    std::function<void()> arrived;                             // with `message`; gRPC's thread
    std::function<void(Status, bool may_have_arrived)> ended;  // gRPC's thread; the last
  };

  Upstream(const std::shared_ptr<grpc::Channel>& channel,
           std::unique_ptr<grpc::ClientContext> context, Request request,
           AskStream<Request, Response> method, Events events)
      : stub_(v1::Control::NewStub(channel)),
        context_(std::move(context)),
        method_(method),
        request_(std::move(request)),
        events_(std::move(events)) {}

  void begin(std::shared_ptr<Upstream> self) {
    self_ = std::move(self);
    (stub_->async()->*method_)(context_.get(), &request_, this);
    this->AddHold();
    this->StartRead(&message);
    this->StartCall();
  }
  // The next, after arrived().
  void read() {
    std::lock_guard lock(mutex_);
    if (stopped_) return;
    reading_ = true;
    this->StartRead(&message);
  }
  // Any number of times, at any moment.
  void stop() {
    context_->TryCancel();
    std::lock_guard lock(mutex_);
    stopped_ = true;
    if (!reading_) release();
  }

  void OnReadDone(bool ok) override {
    {
      std::lock_guard lock(mutex_);
      reading_ = false;
      if (!ok || stopped_) {
        stopped_ = true;
        return release();
      }
    }
    events_.arrived();
  }
  void OnDone(const grpc::Status& status) override {
    const std::shared_ptr<Upstream> self = std::move(self_);
    events_.ended(status.ok() ? ok_status() : LeaderLink::read_status(status, *context_),
                  LeaderLink::may_have_arrived(status));
    events_ = {};
  }

  // Between arrived() and read().
  Response message;

 private:
  void release() {  // with the lock held
    if (!std::exchange(released_, true)) this->RemoveHold();
  }

  std::shared_ptr<Upstream> self_;
  const std::unique_ptr<v1::Control::Stub> stub_;
  const std::unique_ptr<grpc::ClientContext> context_;
  const AskStream<Request, Response> method_;
  const Request request_;
  Events events_;
  std::mutex mutex_;
  bool reading_ = true;
  bool stopped_ = false;
  bool released_ = false;
};

// The client's end. Where to ask is decided on the strand; lines go through on gRPC's threads. Of
// the server's side nothing is called after Finish.
template <class Request, class Response>
class StreamRelay final : public grpc::ServerWriteReactor<Response> {
 public:
  StreamRelay(const CallScope& scope, grpc::CallbackServerContext* context, Caller caller,
              const Request* request, StreamRoute<Request, Response> route)
      : scope_(scope),
        context_(context),
        caller_(std::move(caller)),
        request_(*request),
        route_(route),
        way_(Forwarding::Kind::kRead, caller_.forwarded, scope.patience) {}

  void start(std::shared_ptr<StreamRelay> self) {
    self_ = std::move(self);
    scope_.api.strand().post([relay = self_] { relay->begin(relay); });
  }

  void OnWriteDone(bool ok) override {
    {
      std::lock_guard lock(mutex_);
      writing_ = false;
      if (!ended_) return ok ? upstream_->read() : upstream_->stop();
    }
    finish();
  }
  void OnCancel() override {
    scope_.api.strand().post([relay = std::weak_ptr<StreamRelay>(self_)] {
      if (const auto live = relay.lock()) live->end(cancelled());
    });
  }
  void OnDone() override { const std::shared_ptr<StreamRelay> last = std::move(self_); }

 private:
  using Self = std::shared_ptr<StreamRelay>;
  using Up = Upstream<Request, Response>;
  // How long a leader that says nothing is looked after; a quiet service says nothing for long.
  static constexpr Duration kLookAfter = 5s;

  TimePoint now() const { return scope_.api.strand().clock().now(); }
  bool is_over() {
    std::lock_guard lock(mutex_);
    return ended_;
  }

  // ---- on the strand

  void begin(const Self& self) {
    if (is_over()) return;
    place_ = scope_.link.enter();
    if (place_ == nullptr) return end(LeaderLink::crowded());
    look(self, scope_.api.group_view());
  }

  void look(const Self& self, const std::optional<raft::GroupView>& view) {
    if (view) return advance(self, way_.look(*view, now()));
    // Says why there is no manager.
    const Status why = (scope_.api.*route_.allowed)(caller_.principal);
    end(why.ok() ? unavailable("this manager is starting or stopping") : why);
  }

  void advance(const Self& self, Forwarding::Next next) {
    switch (next.what) {
      // Elected meanwhile: this manager is asked as another would be.
      case Forwarding::Do::kServe: return connect(self, own_address());
      case Forwarding::Do::kForward: return connect(self, next.address);
      case Forwarding::Do::kWait:
        return scope_.link.keep_looking([this, self](const raft::GroupView* view) {
          if (is_over()) return false;
          look(self, view != nullptr ? std::optional(*view) : std::nullopt);
          return false;  // when there is more to wait for, somebody else looks
        });
      case Forwarding::Do::kGiveUp: return;  // of look_while_asking() alone
      case Forwarding::Do::kAnswer: return end(std::move(next.status));
      case Forwarding::Do::kNoLeader: break;
    }
    scope_.link.explain_no_leader([this, self](Status why) { end(std::move(why)); });
  }

  std::string own_address() const {
    const auto view = scope_.api.group_view().value_or(raft::GroupView());
    const raft::MemberView* self = view.find(view.self);
    return self == nullptr ? std::string() : self->member.address;
  }

  void connect(const Self& self, const std::string& address) {
    auto channel = scope_.link.channel(address);
    if (channel == nullptr) {
      return end(Status(StatusCode::kUnavailable,
                        fmt::format("this manager is not the leader; the leader is at {}", address),
                        "not-leader"));
    }
    typename Up::Events events;
    events.arrived = [this, self] { arrived(); };
    events.ended = [this, self](Status status, bool may_have_arrived) {
      scope_.api.strand().post(
          [this, self, status = std::move(status), may_have_arrived]() mutable {
            upstream_ended(self, std::move(status), may_have_arrived);
          });
    };
    auto upstream = std::make_shared<Up>(
        channel, LeaderLink::pass_on(*context_, caller_.principal, route_.limit), request_,
        route_.method, std::move(events));
    {
      std::lock_guard lock(mutex_);
      upstream_ = upstream;
    }
    upstream->begin(upstream);
    look_after(self, std::move(upstream));
  }

  // Until the leader has said something.
  void look_after(const Self& self, std::shared_ptr<Up> upstream) {
    const TimePoint until = now() + kLookAfter;
    scope_.link.keep_looking([this, self, upstream, until](const raft::GroupView* view) {
      {
        std::lock_guard lock(mutex_);
        if (ended_ || spoken_ || upstream_ != upstream) return false;
      }
      if (now() >= until) return false;
      if (view != nullptr && way_.look_while_asking(*view, now()).what == Forwarding::Do::kGiveUp) {
        upstream->stop();
        return false;
      }
      return true;
    });
  }

  void upstream_ended(const Self& self, Status status, bool may_have_arrived) {
    bool spoken = false;
    {
      std::lock_guard lock(mutex_);  // upstream_ stays: what it brought may still be on its way
      if (ended_) return;
      spoken = spoken_;
    }
    const auto view = scope_.api.group_view();
    if (status.ok() || spoken || !view) return end(std::move(status));
    advance(self, way_.ended(status, may_have_arrived, *view, now()));
  }

  void end(Status outcome) {
    {
      std::lock_guard lock(mutex_);
      if (std::exchange(ended_, true)) return;
      outcome_ = std::move(outcome);
      place_.reset();
      if (upstream_ != nullptr) upstream_->stop();
      if (writing_) return;  // OnWriteDone finishes
    }
    finish();
  }

  // ---- on any thread

  void arrived() {
    std::lock_guard lock(mutex_);
    if (ended_) return upstream_->stop();
    spoken_ = true;
    writing_ = true;
    this->StartWrite(&upstream_->message);
  }

  // Once: ended, and nothing is being written.
  void finish() {
    add_reason(*context_, outcome_);
    this->Finish(to_grpc(outcome_));
  }

  const CallScope scope_;
  grpc::CallbackServerContext* const context_;
  const Caller caller_;
  const Request request_;
  const StreamRoute<Request, Response> route_;
  Self self_;                                 // gRPC's: until OnDone
  Forwarding way_;                            // the strand's
  std::unique_ptr<LeaderLink::Place> place_;  // the strand's

  std::mutex mutex_;  // of what follows
  std::shared_ptr<Up> upstream_;
  bool spoken_ = false;
  bool writing_ = false;
  bool ended_ = false;
  Status outcome_;
};

// Answers a stream with the leader's, one message at a time: a client that does not read keeps the
// leader from sending. Without a leader it waits for one as every request does; before the first
// message it follows a change of leaders. gRPC deletes it.
template <class Request, class Response>
grpc::ServerWriteReactor<Response>* make_stream_relay(const CallScope& scope,
                                                      grpc::CallbackServerContext* context,
                                                      const Caller& caller, const Request* request,
                                                      StreamRoute<Request, Response> route) {
  auto relay =
      std::make_shared<StreamRelay<Request, Response>>(scope, context, caller, request, route);
  relay->start(relay);
  return relay.get();
}

// Ends a stream before it began.
template <class Response>
grpc::ServerWriteReactor<Response>* make_stream_refusal(grpc::CallbackServerContext* context,
                                                        const Status& why) {
  class Refusal final : public grpc::ServerWriteReactor<Response> {
   public:
    void OnDone() override { delete this; }
  };
  auto* refusal = new Refusal;
  add_reason(*context, why);
  refusal->Finish(to_grpc(why));
  return refusal;
}

}  // namespace muster::manager::control
