#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <utility>

#include "muster/v1/raft.grpc.pb.h"
#include "raft/transport/grpc/inbound.h"
#include "raft/transport/grpc/inbound_lane.h"
#include "raft/transport/grpc/inbound_snapshot.h"

namespace muster::raft {
namespace {

class LaneRefusal final : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  explicit LaneRefusal(grpc::Status status) { Finish(std::move(status)); }
  void OnDone() override { delete this; }
};

class SnapshotRefusal final : public grpc::ServerReadReactor<grpc::ByteBuffer> {
 public:
  explicit SnapshotRefusal(grpc::Status status) { Finish(std::move(status)); }
  void OnDone() override { delete this; }
};

class Service final : public v1::Raft::WithRawCallbackMethod_Lane<
                          v1::Raft::WithRawCallbackMethod_Snapshot<v1::Raft::Service>> {
 public:
  Service(std::function<std::shared_ptr<Inbound>()> current, CallerIdentity caller)
      : current_(std::move(current)), caller_(std::move(caller)) {}

  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* Lane(
      grpc::CallbackServerContext* context) override {
    std::shared_ptr<Inbound> inbound = current_();
    if (inbound == nullptr) return new LaneRefusal(no_manager());
    return answer_lane(std::move(inbound), *context, caller_(*context));
  }

  grpc::ServerReadReactor<grpc::ByteBuffer>* Snapshot(grpc::CallbackServerContext* context,
                                                      grpc::ByteBuffer* response) override {
    const grpc::Slice empty;
    *response = grpc::ByteBuffer(&empty, 1);  // a RaftSnapshotResult
    std::shared_ptr<Inbound> inbound = current_();
    if (inbound == nullptr) return new SnapshotRefusal(no_manager());
    return answer_snapshot(std::move(inbound), *context, caller_(*context));
  }

 private:
  static grpc::Status no_manager() {
    return {grpc::StatusCode::UNAVAILABLE, "this node is not a manager"};
  }

  const std::function<std::shared_ptr<Inbound>()> current_;
  const CallerIdentity caller_;
};

}  // namespace

std::unique_ptr<grpc::Service> make_raft_service(std::function<std::shared_ptr<Inbound>()> current,
                                                 CallerIdentity caller) {
  return std::make_unique<Service>(std::move(current), std::move(caller));
}

}  // namespace muster::raft
