#include "manager/logs/grpc/log_services.h"

#include <grpcpp/support/server_callback.h>

#include <mutex>
#include <utility>

#include "base/security/tls/credentials.h"
#include "manager/control/access.h"
#include "muster/v1/logs.grpc.pb.h"

namespace muster::manager::logs {
namespace {

grpc::Status to_grpc(const Status& status) {
  return {static_cast<grpc::StatusCode>(status.code()), status.message()};
}

// ------------------------------------------------------------ nodes

// One node's stream for one subscription. gRPC deletes the reactor in OnDone; the feeder that the
// broker holds may outlive it.
class Publish final : public grpc::ServerReadReactor<v1::LogPublish> {
 public:
  class Feeder final : public LogFeeder {
   public:
    explicit Feeder(Publish* stream) : stream_(stream) {}
    void read() override {
      std::lock_guard lock(mutex_);
      if (stream_ != nullptr && !finished_) stream_->StartRead(&stream_->incoming_);
    }
    void end(Status status) override {
      std::lock_guard lock(mutex_);
      if (stream_ == nullptr || std::exchange(finished_, true)) return;
      stream_->Finish(to_grpc(status));
    }
    void detach() {
      std::lock_guard lock(mutex_);
      stream_ = nullptr;
    }

   private:
    std::mutex mutex_;
    Publish* stream_;
    bool finished_ = false;
  };

  Publish(std::shared_ptr<LogBroker> broker, std::string node_id)
      : broker_(std::move(broker)),
        node_id_(std::move(node_id)),
        feeder_(std::make_shared<Feeder>(this)) {
    StartRead(&incoming_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      // The agent went away; one that has said `end` was answered already.
      feeder_->end(Status(StatusCode::kCancelled, "the stream ended without a word"));
      return;
    }
    auto message = std::make_shared<v1::LogPublish>(std::move(incoming_));
    incoming_.Clear();
    if (!std::exchange(introduced_, true)) {
      broker_->strand().post([broker = broker_, feeder = feeder_, node_id = node_id_, message] {
        const std::string id = message->subscription_id();
        broker->opened(node_id, id, feeder);
        broker->received(*feeder, std::move(*message));
      });
      return;
    }
    broker_->strand().post([broker = broker_, feeder = feeder_, message] {
      broker->received(*feeder, std::move(*message));
    });
  }

  // Nothing is being read while there is no room, so this is how the end is learnt of.
  void OnCancel() override { feeder_->end(Status(StatusCode::kCancelled, "the agent is gone")); }

  void OnDone() override {
    feeder_->detach();
    broker_->strand().post([broker = broker_, feeder = feeder_] { broker->closed(*feeder); });
    delete this;
  }

 private:
  const std::shared_ptr<LogBroker> broker_;
  const std::string node_id_;
  const std::shared_ptr<Feeder> feeder_;
  bool introduced_ = false;
  v1::LogPublish incoming_;
};

class PublishRefusal final : public grpc::ServerReadReactor<v1::LogPublish> {
 public:
  explicit PublishRefusal(const Status& why) { Finish(to_grpc(why)); }
  void OnDone() override { delete this; }
};

class LogsService final : public v1::Logs::CallbackService {
 public:
  explicit LogsService(CurrentBroker current) : current_(std::move(current)) {}

  grpc::ServerReadReactor<v1::LogPublish>* Publish(grpc::CallbackServerContext* context,
                                                   v1::LogPublished*) override {
    const security::Principal caller = security::principal_of_tls(*context);
    const Status allowed = control::check_access("muster.v1.Logs.Publish", caller);
    if (!allowed.ok()) return new PublishRefusal(allowed);
    auto broker = current_();
    if (broker == nullptr) return new PublishRefusal(unavailable("this node is not a manager"));
    return new logs::Publish(std::move(broker), caller.node_id);
  }

 private:
  CurrentBroker current_;
};

// ------------------------------------------------------------ clients

class Answer final : public grpc::ServerWriteReactor<v1::ServiceLogsResponse> {
 public:
  class Client final : public LogClient {
   public:
    explicit Client(Answer* stream) : stream_(stream) {}
    void send(v1::ServiceLogsResponse message) override {
      std::lock_guard lock(mutex_);
      if (stream_ == nullptr || finished_) return;
      stream_->outgoing_ = std::move(message);
      stream_->StartWrite(&stream_->outgoing_);
    }
    void end(Status status) override {
      std::lock_guard lock(mutex_);
      if (stream_ == nullptr || std::exchange(finished_, true)) return;
      if (!status.reason().empty()) {
        stream_->context_->AddTrailingMetadata("muster-reason", status.reason());
      }
      stream_->Finish(to_grpc(status));
    }
    void detach() {
      std::lock_guard lock(mutex_);
      stream_ = nullptr;
    }

   private:
    std::mutex mutex_;
    Answer* stream_;
    bool finished_ = false;
  };

  Answer(std::shared_ptr<LogBroker> broker, grpc::CallbackServerContext* context,
         const v1::ServiceLogsRequest& request)
      : broker_(std::move(broker)), context_(context), client_(std::make_shared<Client>(this)) {
    broker_->strand().post(
        [broker = broker_, client = client_, request] { broker->subscribe(request, client); });
  }

  void OnWriteDone(bool ok) override {
    broker_->strand().post([broker = broker_, client = client_, ok] {
      if (ok) {
        broker->sent(*client);
      } else {
        broker->gone(*client);
        client->end(Status(StatusCode::kCancelled, "the client went away"));
      }
    });
  }
  void OnCancel() override {
    broker_->strand().post([broker = broker_, client = client_] {
      broker->gone(*client);
      client->end(Status(StatusCode::kCancelled, "the client went away"));
    });
  }
  void OnDone() override {
    client_->detach();
    broker_->strand().post([broker = broker_, client = client_] { broker->gone(*client); });
    delete this;
  }

 private:
  const std::shared_ptr<LogBroker> broker_;
  grpc::CallbackServerContext* const context_;
  const std::shared_ptr<Client> client_;
  v1::ServiceLogsResponse outgoing_;
};

}  // namespace

std::unique_ptr<grpc::Service> make_logs_service(CurrentBroker current) {
  return std::make_unique<LogsService>(std::move(current));
}

control::ServiceLogsCall make_service_logs_call(CurrentBroker current) {
  return [current = std::move(current)](grpc::CallbackServerContext* context,
                                        const v1::ServiceLogsRequest& request)
             -> grpc::ServerWriteReactor<v1::ServiceLogsResponse>* {
    auto broker = current();
    if (broker == nullptr) return nullptr;
    return new Answer(std::move(broker), context, request);
  };
}

}  // namespace muster::manager::logs
