#include "agent/session/grpc/grpc_log_streams.h"

#include <grpcpp/support/sync_stream.h>

#include <utility>

#include "agent/session/grpc/manager_channel.h"
#include "muster/v1/logs.grpc.pb.h"

namespace muster::agent {
namespace {

// The blocking interface, since its user is a thread that has nothing else to do.
class GrpcLogStream final : public LogPublishStream {
 public:
  explicit GrpcLogStream(std::unique_ptr<v1::Logs::Stub> stub) : stub_(std::move(stub)) {
    // Else opening would wait for the connection, on the strand of the one who opens.
    context_.set_initial_metadata_corked(true);
    writer_ = stub_->Publish(&context_, &answer_);
  }
  ~GrpcLogStream() override {
    if (finished_) return;
    context_.TryCancel();
    (void)writer_->Finish();
  }

  bool write(const v1::LogPublish& message) override { return writer_->Write(message); }
  Status finish() override {
    writer_->WritesDone();
    const grpc::Status status = writer_->Finish();
    finished_ = true;
    return Status(static_cast<StatusCode>(status.error_code()), status.error_message());
  }
  void cancel() override { context_.TryCancel(); }

 private:
  std::unique_ptr<v1::Logs::Stub> stub_;
  grpc::ClientContext context_;
  v1::LogPublished answer_;
  std::unique_ptr<grpc::ClientWriter<v1::LogPublish>> writer_;
  bool finished_ = false;
};

class GrpcLogStreams final : public LogStreamFactory {
 public:
  GrpcLogStreams(std::function<std::string()> manager, CredentialsNow credentials)
      : manager_(std::move(manager)), credentials_(std::move(credentials)) {}

  std::unique_ptr<LogPublishStream> open() override {
    return std::make_unique<GrpcLogStream>(
        v1::Logs::NewStub(open_channel(manager_(), credentials_)));
  }

 private:
  std::function<std::string()> manager_;
  CredentialsNow credentials_;
};

}  // namespace

std::unique_ptr<LogStreamFactory> make_grpc_log_streams(std::function<std::string()> manager,
                                                        CredentialsNow credentials) {
  return std::make_unique<GrpcLogStreams>(std::move(manager), std::move(credentials));
}

}  // namespace muster::agent
