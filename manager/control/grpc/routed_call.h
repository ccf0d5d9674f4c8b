#pragma once

#include <grpcpp/support/server_callback.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "manager/control/control_api.h"
#include "manager/control/forwarding.h"
#include "manager/control/grpc/answers.h"
#include "manager/control/grpc/leader_link.h"
#include "manager/members/group_facts.h"
#include "muster/v1/control.grpc.pb.h"

namespace muster::manager::control {

// A method of the leader's stub.
template <class Request, class Response>
using Ask = void (v1::Control::StubInterface::async_interface::*)(
    grpc::ClientContext*, const Request*, Response*, std::function<void(grpc::Status)>);

// What all unary calls need; made by the service, which outlives them.
struct CallScope {
  ControlApi& api;
  LeaderLink& link;
  Duration limit;
  Duration patience;
};

// Who asks, and whether another manager has passed the request on.
struct Caller {
  security::Principal principal;
  bool forwarded = false;
};

// A unary call's end of gRPC; deletes itself. `cancelled` runs on gRPC's thread when the client
// goes away or the server stops: what waits for the cluster must not keep a server from stopping.
class UnaryReactor final : public grpc::ServerUnaryReactor {
 public:
  explicit UnaryReactor(std::function<void()> cancelled) : cancelled_(std::move(cancelled)) {}
  void OnCancel() override { cancelled_(); }
  void OnDone() override { delete this; }

 private:
  const std::function<void()> cancelled_;
};

inline Status cancelled() {
  return Status(StatusCode::kCancelled, "the caller went away; the change may still happen");
}

// One call of another manager under way.
template <class Response>
struct Outgoing {
  std::unique_ptr<grpc::ClientContext> context;
  std::unique_ptr<v1::Control::Stub> stub;
  Response response;
};

// Asks the manager at `address`; `done` runs on the strand. Null when it cannot be called at all.
template <class Request, class Response, class Done>
std::shared_ptr<Outgoing<Response>> ask(const CallScope& scope, const std::string& address,
                                        grpc::CallbackServerContext& from,
                                        const security::Principal& caller, Duration limit,
                                        const Request* request, Ask<Request, Response> method,
                                        Done done) {
  const auto channel = scope.link.channel(address);
  if (channel == nullptr) return nullptr;
  auto out = std::make_shared<Outgoing<Response>>();
  out->context = LeaderLink::pass_on(from, caller, limit);
  out->stub = v1::Control::NewStub(channel);
  Executor& strand = scope.api.strand();
  (out->stub->async()->*method)(
      out->context.get(), request, &out->response,
      [out, &strand, done = std::move(done)](grpc::Status status) {
        strand.post([out, done, status = std::move(status)]() mutable { done(*out, status); });
      });
  return out;
}

// What is particular about a method.
template <class Request, class Response>
struct Route {
  Forwarding::Kind kind;
  // Answers here; on the strand.
  std::function<void(const Principal&, const Request&, Callback<Response>)> serve;
  // Asks the leader, and how long at a time.
  Ask<Request, Response> method = nullptr;
  Duration ask_limit;
  // What another manager answered, made this one's answer. None: as it is.
  std::function<void(Response&)> adapt;
  // The answer while somebody leads who cannot be asked. None: an error.
  std::function<Result<Response>(const Principal&, const Request&)> instead;
};

// A unary call under way that the leader has to answer, or that waits for one. gRPC keeps context,
// request and response until Finish, which is called once, on the strand: when the call's own
// client goes away, or its time is over, what it waits for is let go.
template <class Request, class Response>
class RoutedCall : public std::enable_shared_from_this<RoutedCall<Request, Response>> {
 public:
  RoutedCall(CallScope scope, grpc::CallbackServerContext* context,
             std::shared_ptr<const Request> request, Response* response, Caller caller,
             Route<Request, Response> route)
      : scope_(scope),
        context_(context),
        request_(std::move(request)),
        response_(response),
        caller_(std::move(caller)),
        route_(std::move(route)),
        way_(route_.kind, caller_.forwarded, scope.patience) {}

  // Once, from the handler: what it returns.
  grpc::ServerUnaryReactor* start() {
    Executor& strand = scope_.api.strand();
    reactor_ = new UnaryReactor([self = this->shared_from_this(), &strand] {
      strand.post([self] { self->finish(fail(cancelled())); });
    });
    strand.post([self = this->shared_from_this()] { self->begin(); });
    return reactor_;
  }

 private:
  void begin() {
    if (finished_) return;
    place_ = scope_.link.enter();
    if (place_ == nullptr) return finish(fail(LeaderLink::crowded()));
    timer_ = scope_.api.strand().after(scope_.limit, [self = this->shared_from_this()] {
      self->finish(fail(StatusCode::kDeadlineExceeded,
                        "the cluster did not answer in time; the change may still happen",
                        "request-limit"));
    });
    const auto view = scope_.api.group_view();
    if (!view) return serve();
    advance(way_.look(*view, now()));
  }

  TimePoint now() const { return scope_.api.strand().clock().now(); }

  void advance(Forwarding::Next next) {
    if (finished_) return;
    asking_ = next.what == Forwarding::Do::kServe || next.what == Forwarding::Do::kForward;
    switch (next.what) {
      case Forwarding::Do::kServe: return serve();
      case Forwarding::Do::kForward: forward(next.address); return look_on();
      case Forwarding::Do::kWait: return look_on();
      case Forwarding::Do::kGiveUp: return;  // of look_while_asking() alone
      case Forwarding::Do::kAnswer: return finish(fail(std::move(next.status)));
      case Forwarding::Do::kNoLeader: break;
    }
    explaining_ = true;
    scope_.link.explain_no_leader(
        [self = this->shared_from_this(), what = std::move(next.status)](Status status) {
          if (what.ok()) return self->finish(fail(std::move(status)));
          self->finish(fail(what.code(), fmt::format("{}. {}", what.message(), status.message()),
                            what.reason()));
        });
  }

  void serve() {
    asking_ = true;
    route_.serve(caller_.principal, *request_,
                 [self = this->shared_from_this(), version = scope_.api.version()](
                     Result<Response> result) { self->served(std::move(result), version); });
  }

  // A change that was refused, or that there was no need for, rests on this manager's state alone,
  // which is an old one when another manager leads meanwhile: after a pause it takes a leader a
  // moment to learn of it. What was written has had a majority's word.
  bool wants_confirmation(const Result<Response>& result, uint64_t version) const {
    const bool reads =
        route_.kind == Forwarding::Kind::kRead || route_.kind == Forwarding::Kind::kOwnRead;
    if (reads || !scope_.api.group_view()) return false;
    if (result) return scope_.api.version() == version;
    switch (result.error().code()) {
      case StatusCode::kInvalidArgument:
      case StatusCode::kNotFound:
      case StatusCode::kAlreadyExists:
      case StatusCode::kFailedPrecondition:
      case StatusCode::kAborted:
      case StatusCode::kOutOfRange: return true;
      default: return false;
    }
  }

  void served(Result<Response> result, uint64_t version) {
    if (finished_) return;
    if (!wants_confirmation(result, version)) return conclude(std::move(result));
    auto kept = std::make_shared<Result<Response>>(std::move(result));
    scope_.api.read_barrier([self = this->shared_from_this(), kept](const Status& leads) {
      if (leads.ok()) return self->conclude(std::move(*kept));
      const auto view = self->scope_.api.group_view().value_or(raft::GroupView());
      self->conclude(fail(members::not_leader(view)));
    });
  }

  void conclude(Result<Response> result) {
    if (finished_) return;
    const auto view = scope_.api.group_view();
    if (result || !view) {
      context_->AddTrailingMetadata(kVersionKey, std::to_string(scope_.api.version()));
      return finish(std::move(result));
    }
    advance(way_.ended(result.error(), true, *view, now()));
  }

  void forward(const std::string& address) {
    scope_.link.reconnect(address);
    outgoing_ =
        ask(scope_, address, *context_, caller_.principal, route_.ask_limit, request_.get(),
            route_.method,
            [self = this->shared_from_this()](Outgoing<Response>& out, const grpc::Status& status) {
              self->forwarded(out, status);
            });
    if (outgoing_ != nullptr) return;
    if (route_.instead) return finish(route_.instead(caller_.principal, *request_));
    finish(fail(StatusCode::kUnavailable,
                fmt::format("this manager is not the leader; the leader is at {}", address),
                "not-leader"));
  }

  void forwarded(Outgoing<Response>& out, const grpc::Status& status) {
    outgoing_.reset();
    if (finished_) return;
    if (status.ok()) {
      const uint64_t version = LeaderLink::read_version(*out.context);
      auto response = std::make_shared<Response>(std::move(out.response));
      if (route_.adapt) route_.adapt(*response);
      scope_.api.when_applied(version, [self = this->shared_from_this(), response, version] {
        if (self->finished_) return;
        self->context_->AddTrailingMetadata(kVersionKey, std::to_string(version));
        self->finish(std::move(*response));
      });
      asking_ = done_ = true;
      return;
    }
    const auto view = scope_.api.group_view().value_or(raft::GroupView());
    const Status why = LeaderLink::read_status(status, *out.context);
    if (route_.instead && view.leader && could_not_be_asked(why)) {
      return finish(route_.instead(caller_.principal, *request_));
    }
    advance(way_.ended(why, LeaderLink::may_have_arrived(status), view, now()));
  }

  // Without a reason it is gRPC that speaks.
  static bool could_not_be_asked(const Status& why) {
    return why.reason().empty() &&
           (why.code() == StatusCode::kUnavailable || why.code() == StatusCode::kDeadlineExceeded ||
            why.code() == StatusCode::kResourceExhausted);
  }

  // One look under way at a time.
  void look_on() {
    if (std::exchange(looking_, true)) return;
    scope_.link.keep_looking([self = this->shared_from_this()](const raft::GroupView* view) {
      return self->look(view);
    });
  }

  bool look(const raft::GroupView* view) {
    if (finished_ || explaining_ || done_) return looking_ = false;
    if (!asking_ && view == nullptr) {
      serve();  // which says why there is no manager
    } else if (!asking_) {
      advance(way_.look(*view, now()));
    } else if (way_.look_while_asking(view != nullptr ? *view : raft::GroupView(), now()).what ==
                   Forwarding::Do::kGiveUp &&
               outgoing_ != nullptr) {
      outgoing_->context->TryCancel();
    }
    return looking_ = !finished_ && !explaining_;
  }

  void finish(Result<Response> result) {
    if (std::exchange(finished_, true)) return;
    scope_.api.strand().cancel(timer_);
    place_.reset();
    if (outgoing_ != nullptr) outgoing_->context->TryCancel();
    if (!result) {
      add_reason(*context_, result.error());
      const auto view = scope_.api.group_view();
      const std::string leader = view ? members::leader_address(*view) : std::string();
      if (result.error().reason() == "not-leader" && !leader.empty()) {
        context_->AddTrailingMetadata(kLeaderKey, leader);
      }
      reactor_->Finish(to_grpc(result.error()));
      return;
    }
    *response_ = *std::move(result);
    reactor_->Finish(grpc::Status::OK);
  }

  const CallScope scope_;
  grpc::CallbackServerContext* const context_;
  const std::shared_ptr<const Request> request_;
  Response* const response_;
  UnaryReactor* reactor_ = nullptr;
  const Caller caller_;
  const Route<Request, Response> route_;
  std::unique_ptr<LeaderLink::Place> place_;
  Forwarding way_;
  Executor::TimerId timer_ = 0;
  std::shared_ptr<Outgoing<Response>> outgoing_;
  bool asking_ = false;
  bool looking_ = false;
  bool explaining_ = false;
  bool done_ = false;  // only waits for this manager's store
  bool finished_ = false;
};

}  // namespace muster::manager::control
