#include "manager/control/grpc/control_service.h"

#include <grpcpp/support/server_callback.h>

#include <deque>
#include <mutex>
#include <string>
#include <utility>

#include "manager/control/control_api.h"
#include "muster/v1/control.grpc.pb.h"

namespace muster::manager::control {
namespace {

using grpc::CallbackServerContext;
using grpc::ServerUnaryReactor;

grpc::Status to_grpc(const Status& status) {
  return {static_cast<grpc::StatusCode>(status.code()), status.message()};
}

void add_reason(CallbackServerContext& context, const Status& status) {
  if (!status.reason().empty()) context.AddTrailingMetadata("muster-reason", status.reason());
}

// A unary call under way. gRPC keeps context, request and response until Finish, which is called
// once, on the strand.
template <class Response>
struct Call {
  CallbackServerContext* context;
  Response* response;
  ServerUnaryReactor* reactor;
  Executor* strand;
  Executor::TimerId timer = 0;
  bool finished = false;

  void finish(Result<Response> result) {
    if (finished) return;
    finished = true;
    strand->cancel(timer);
    if (!result) {
      add_reason(*context, result.error());
      reactor->Finish(to_grpc(result.error()));
      return;
    }
    *response = *std::move(result);
    reactor->Finish(grpc::Status::OK);
  }
};

// One watcher. Written to from the strand, finished by gRPC's threads: the lock covers both.
class Watcher final : public grpc::ServerWriteReactor<v1::WatchResponse> {
 public:
  // What the strand holds; the reactor is gRPC's to end.
  struct Link {
    std::mutex mutex;
    Watcher* watcher = nullptr;
    store::Store::Subscription subscription;  // the strand's alone
  };

  Watcher(ControlApi& api, CallbackServerContext* context, security::Principal principal,
          const v1::WatchRequest* request, size_t bytes_max)
      : strand_(api.strand()), context_(context), bytes_max_(bytes_max) {
    link_ = std::make_shared<Link>();
    link_->watcher = this;
    strand_.post([&api, link = link_, principal = std::move(principal), request = *request,
                  &strand = strand_] {
      auto subscription =
          api.watch(principal, request, [weak = std::weak_ptr(link)](const auto& response) {
            const auto alive = weak.lock();
            if (alive == nullptr) return;
            std::lock_guard lock(alive->mutex);
            if (alive->watcher != nullptr) alive->watcher->send(response);
          });
      std::lock_guard lock(link->mutex);
      if (link->watcher == nullptr) return;
      if (subscription) {
        link->subscription = *std::move(subscription);
        link->watcher->StartSendInitialMetadata();
        // What is kept is delivered by a closure that was posted before this one.
        if (request.until_present()) strand.post([link] { complete(*link); });
      } else {
        link->watcher->end(subscription.error());
      }
    });
  }

  void OnWriteDone(bool ok) override {
    std::lock_guard lock(link_->mutex);
    bytes_ -= queue_.front().ByteSizeLong();
    queue_.pop_front();
    if (ended_) {
      finish();
    } else if (!ok) {
      end(Status(StatusCode::kCancelled, "the stream broke"));
    } else if (!queue_.empty()) {
      StartWrite(&queue_.front());
    } else if (completed_) {
      end(ok_status());
    }
  }

  void OnCancel() override {
    std::lock_guard lock(link_->mutex);
    end(Status(StatusCode::kCancelled, "the watcher went away"));
  }

  void OnDone() override {
    {
      std::lock_guard lock(link_->mutex);
      link_->watcher = nullptr;
    }
    strand_.post([link = std::move(link_)] { link->subscription = {}; });
    delete this;
  }

 private:
  // Everything was queued that there will be.
  static void complete(Link& link) {
    link.subscription = {};
    std::lock_guard lock(link.mutex);
    if (link.watcher == nullptr) return;
    link.watcher->completed_ = true;
    if (link.watcher->queue_.empty()) link.watcher->end(ok_status());
  }
  // Both under the lock.
  void send(const v1::WatchResponse& response) {
    if (ended_ || completed_) return;
    const size_t bytes = response.ByteSizeLong();
    if (bytes_ + bytes > bytes_max_) {
      end(Status(StatusCode::kResourceExhausted,
                 "the watcher is too slow: list again, then watch from there", "slow-watcher"));
      return;
    }
    bytes_ += bytes;
    queue_.push_back(response);
    if (queue_.size() == 1) StartWrite(&queue_.front());
  }
  void end(Status status) {
    if (ended_) return;
    ended_ = true;
    status_ = std::move(status);
    if (queue_.empty()) finish();  // else when the write under way is done
  }
  void finish() {
    if (finished_) return;
    finished_ = true;
    add_reason(*context_, status_);
    Finish(to_grpc(status_));
  }

  Executor& strand_;
  CallbackServerContext* context_;
  size_t bytes_max_;
  std::shared_ptr<Link> link_;
  std::deque<v1::WatchResponse> queue_;
  size_t bytes_ = 0;
  bool completed_ = false;
  bool ended_ = false;
  bool finished_ = false;
  Status status_;
};

class LogsRefusal final : public grpc::ServerWriteReactor<v1::ServiceLogsResponse> {
 public:
  explicit LogsRefusal(grpc::Status why) { Finish(std::move(why)); }
  void OnDone() override { delete this; }
};

class ControlService final : public v1::Control::CallbackService {
 public:
  ControlService(ControlApi& api, PrincipalOf principal_of, ControlServiceOptions options)
      : api_(api), principal_of_(std::move(principal_of)), options_(std::move(options)) {}

// One line a method: both kinds differ only in how the API answers.
#define MUSTER_WRITE(Name, method)                                                           \
  ServerUnaryReactor* Name(CallbackServerContext* context, const v1::Name##Request* request, \
                           v1::Name##Response* response) override {                          \
    return write(context, request, response, &ControlApi::method);                           \
  }
#define MUSTER_READ(Name, method)                                                            \
  ServerUnaryReactor* Name(CallbackServerContext* context, const v1::Name##Request* request, \
                           v1::Name##Response* response) override {                          \
    return read(context, request, response, &ControlApi::method);                            \
  }
  MUSTER_WRITE(InitSwarm, init_swarm)
  MUSTER_WRITE(LeaveSwarm, leave_swarm)
  MUSTER_WRITE(GetInfo, get_info)
  MUSTER_WRITE(UpdateCluster, update_cluster)
  MUSTER_WRITE(CreateService, create_service)
  MUSTER_WRITE(UpdateService, update_service)
  MUSTER_WRITE(RemoveService, remove_service)
  MUSTER_WRITE(UpdateNode, update_node)
  MUSTER_WRITE(CreateNetwork, create_network)
  MUSTER_WRITE(RemoveNetwork, remove_network)
  MUSTER_WRITE(CreateSecret, create_secret)
  MUSTER_WRITE(UpdateSecret, update_secret)
  MUSTER_WRITE(RemoveSecret, remove_secret)
  MUSTER_WRITE(CreateConfig, create_config)
  MUSTER_WRITE(UpdateConfig, update_config)
  MUSTER_WRITE(RemoveConfig, remove_config)
  MUSTER_READ(GetCluster, get_cluster)
  MUSTER_READ(GetService, get_service)
  MUSTER_READ(ExplainService, explain_service)
  MUSTER_READ(ListServices, list_services)
  MUSTER_READ(GetTask, get_task)
  MUSTER_READ(ListTasks, list_tasks)
  MUSTER_READ(GetNode, get_node)
  MUSTER_READ(ListNodes, list_nodes)
  MUSTER_READ(GetNetwork, get_network)
  MUSTER_READ(ListNetworks, list_networks)
  MUSTER_READ(GetSecret, get_secret)
  MUSTER_READ(ListSecrets, list_secrets)
  MUSTER_READ(GetConfig, get_config)
  MUSTER_READ(ListConfigs, list_configs)
#undef MUSTER_WRITE
#undef MUSTER_READ

  grpc::ServerWriteReactor<v1::WatchResponse>* Watch(CallbackServerContext* context,
                                                     const v1::WatchRequest* request) override {
    return new Watcher(api_, context, principal_of_(*context), request, options_.watch_bytes_max);
  }

  grpc::ServerWriteReactor<v1::ServiceLogsResponse>* ServiceLogs(
      CallbackServerContext* context, const v1::ServiceLogsRequest* request) override {
    // The API knows who may ask, and why nobody can answer.
    const Status allowed = api_.may_read_logs(principal_of_(*context));
    auto* answer =
        allowed.ok() && options_.service_logs ? options_.service_logs(context, *request) : nullptr;
    if (answer != nullptr) return answer;
    const Status why = allowed.ok() ? unavailable("this manager is starting or stopping") : allowed;
    add_reason(*context, why);
    return new LogsRefusal(to_grpc(why));
  }

 private:
  template <class Request, class Response>
  ServerUnaryReactor* write(CallbackServerContext* context, const Request* request,
                            Response* response,
                            void (ControlApi::*method)(const Principal&, const Request&,
                                                       Callback<Response>)) {
    Executor& strand = api_.strand();
    auto call = std::make_shared<Call<Response>>();
    call->context = context;
    call->response = response;
    call->reactor = context->DefaultReactor();
    call->strand = &strand;
    strand.post([this, call, request, method, principal = principal_of_(*context)] {
      call->timer = call->strand->after(options_.request_limit, [call] {
        call->finish(fail(StatusCode::kDeadlineExceeded,
                          "the cluster did not answer in time; the change may still happen",
                          "request-limit"));
      });
      (api_.*method)(principal, *request,
                     [call](Result<Response> result) { call->finish(std::move(result)); });
    });
    return call->reactor;
  }

  // Answered on gRPC's thread, from a snapshot.
  template <class Request, class Response>
  ServerUnaryReactor* read(CallbackServerContext* context, const Request* request,
                           Response* response,
                           Result<Response> (ControlApi::*method)(const Principal&, const Request&)
                               const) {
    ServerUnaryReactor* reactor = context->DefaultReactor();
    Result<Response> result = (api_.*method)(principal_of_(*context), *request);
    if (result) {
      *response = *std::move(result);
      reactor->Finish(grpc::Status::OK);
    } else {
      add_reason(*context, result.error());
      reactor->Finish(to_grpc(result.error()));
    }
    return reactor;
  }

  ControlApi& api_;
  PrincipalOf principal_of_;
  ControlServiceOptions options_;
};

}  // namespace

std::unique_ptr<grpc::Service> make_control_service(ControlApi& api, PrincipalOf principal_of,
                                                    ControlServiceOptions options) {
  return std::make_unique<ControlService>(api, std::move(principal_of), std::move(options));
}

}  // namespace muster::manager::control
