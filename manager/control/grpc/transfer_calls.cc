#include "manager/control/grpc/transfer_calls.h"

#include <memory>
#include <mutex>
#include <utility>

#include "manager/control/grpc/answers.h"

namespace muster::manager::control {
namespace {

// One step is under way at a time, and the call is finished only by a step's end: nothing is ever
// called on a reactor that gRPC has deleted.
class BackupCall final : public grpc::ServerWriteReactor<v1::BackupSwarmResponse> {
 public:
  BackupCall(ControlApi& api, grpc::CallbackServerContext* context, security::Principal caller,
             const v1::BackupSwarmRequest* request)
      : context_(context) {
    api.strand().post([this, &api, caller = std::move(caller), request] {
      api.backup_swarm(caller, *request, [this](Result<std::unique_ptr<BackupStream>> stream) {
        if (!stream) return end(stream.error());
        stream_ = *std::move(stream);
        next();
      });
    });
  }

  void OnWriteDone(bool ok) override {
    if (!ok) return end(Status(StatusCode::kCancelled, "the client went away"));
    next();
  }
  void OnDone() override { delete this; }

 private:
  void next() {
    if (context_->IsCancelled()) return end(Status(StatusCode::kCancelled, "the client went away"));
    stream_->next([this](Result<std::string> piece) {
      if (!piece) return end(piece.error());
      if (piece->empty()) return end(ok_status());
      message_.set_chunk(*std::move(piece));
      StartWrite(&message_);
    });
  }
  void end(const Status& status) {
    add_reason(*context_, status);
    Finish(to_grpc(status));
  }

  grpc::CallbackServerContext* const context_;
  std::unique_ptr<BackupStream> stream_;
  v1::BackupSwarmResponse message_;
};

class RestoreCall final : public grpc::ServerReadReactor<v1::RestoreSwarmRequest> {
 public:
  RestoreCall(ControlApi& api, grpc::CallbackServerContext* context, security::Principal caller,
              v1::RestoreSwarmResponse* response)
      : context_(context), response_(response) {
    api.strand().post([this, &api, caller = std::move(caller)] {
      api.restore_swarm(caller, [this](Result<std::unique_ptr<RestoreStream>> stream) {
        if (!stream) return end(stream.error());
        stream_ = *std::move(stream);
        StartRead(&message_);
      });
    });
  }

  void OnReadDone(bool ok) override {
    // The end of what the client sends, or of the client.
    if (!ok && context_->IsCancelled()) {
      return end(Status(StatusCode::kCancelled, "the client went away"));
    }
    if (!ok) {
      return stream_->finish([this](Result<v1::RestoreSwarmResponse> result) {
        if (!result) return end(result.error());
        *response_ = *std::move(result);
        end(ok_status());
      });
    }
    stream_->write(std::move(message_), [this](const Status& status) {
      if (!status.ok()) return end(status);
      message_.Clear();
      StartRead(&message_);
    });
  }
  void OnDone() override { delete this; }

 private:
  void end(const Status& status) {
    add_reason(*context_, status);
    Finish(to_grpc(status));
  }

  grpc::CallbackServerContext* const context_;
  v1::RestoreSwarmResponse* const response_;
  std::unique_ptr<RestoreStream> stream_;
  v1::RestoreSwarmRequest message_;
};

}  // namespace

grpc::ServerWriteReactor<v1::BackupSwarmResponse>* make_backup_call(
    ControlApi& api, grpc::CallbackServerContext* context, security::Principal caller,
    const v1::BackupSwarmRequest* request) {
  return new BackupCall(api, context, std::move(caller), request);
}

grpc::ServerReadReactor<v1::RestoreSwarmRequest>* make_restore_call(
    ControlApi& api, grpc::CallbackServerContext* context, security::Principal caller,
    v1::RestoreSwarmResponse* response) {
  return new RestoreCall(api, context, std::move(caller), response);
}

}  // namespace muster::manager::control
