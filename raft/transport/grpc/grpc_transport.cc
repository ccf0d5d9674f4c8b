#include "raft/transport/grpc/grpc_transport.h"

#include <utility>

#include "base/check.h"
#include "base/grpc/callback_threads.h"
#include "raft/transport/grpc/inbound.h"
#include "raft/transport/grpc/peers.h"
#include "raft/transport/grpc/snapshot_queue.h"
#include "raft/transport/grpc/transport_core.h"

namespace muster::raft {
namespace {

// After everybody had his time to say goodbye: for gRPC to let go of what was cancelled.
constexpr Duration kCancelMax = 500ms;

}  // namespace

GrpcTransport::GrpcTransport(GrpcTransportOptions options, ChannelFactory channels,
                             TransportEvents& events, Log log)
    : core_(std::make_shared<TransportCore>(std::move(options), std::move(channels), events,
                                            std::move(log))),
      peers_(std::make_shared<Peers>(core_)),
      inbound_(std::make_shared<Inbound>(core_, peers_)),
      snapshots_(std::make_shared<SnapshotQueue>(core_)) {
  keep_callback_threads();
  core_->inbound = inbound_;
}

GrpcTransport::~GrpcTransport() {
  stop();
}

std::shared_ptr<Inbound> GrpcTransport::inbound() const {
  return inbound_;
}

void GrpcTransport::set_members(const Members& members) {
  auto replaced = peers_->replace(members);
  if (!replaced) return;
  core_->work.post(
      [core = core_, inbound = inbound_, snapshots = snapshots_, replaced = *std::move(replaced)] {
        for (const MemberId id : replaced.gone) {
          core->watch.forget(id);
          snapshots->abandon(id);
        }
        inbound->members_changed(*replaced.former);
      });
}

void GrpcTransport::judge_again() {
  core_->work.post(
      [core = core_, inbound = inbound_] { inbound->members_changed(*core->members()); });
}

void GrpcTransport::send(Message message) {
  MUSTER_CHECK(message.kind != MessageKind::kSnapshot, "snapshots have a body");
  peers_->send(std::move(message));
}

void GrpcTransport::flush() {
  peers_->flush();
}

void GrpcTransport::send_snapshot(Message message, std::unique_ptr<SnapshotReader> body) {
  MUSTER_CHECK(message.kind == MessageKind::kSnapshot, "only snapshots have a body");
  snapshots_->submit(std::move(message), std::move(body));
}

void GrpcTransport::stop() {
  if (stopped_.exchange(true)) return;
  peers_->stop();
  inbound_->say_goodbye();
  core_->work.post([snapshots = snapshots_] { snapshots->abandon_all(); });
  if (!core_->streams.wait_for_none(core_->options.goodbye_max)) {
    peers_->cancel();
    inbound_->cancel();
    core_->streams.wait_for_none(kCancelMax);
  }
  core_->gate.close();
  core_->probe.stop();
  core_->work.stop();
  core_->disk.stop();
}

}  // namespace muster::raft
