#include "raft/transport/grpc/grpc_transport.h"

#include <utility>
#include <vector>

#include "base/check.h"
#include "raft/transport/grpc/inbound.h"
#include "raft/transport/grpc/lane.h"
#include "raft/transport/grpc/snapshot_queue.h"
#include "raft/transport/grpc/transport_core.h"

namespace muster::raft {
namespace {

// After everybody had his time to say goodbye: for gRPC to let go of what was cancelled.
constexpr Duration kCancelMax = 500ms;

// What must never wait behind entries; votes and the order to campaign are as urgent as
// heartbeats.
bool is_urgent(MessageKind kind) {
  switch (kind) {
    case MessageKind::kAppend:
    case MessageKind::kAppendReply:
    case MessageKind::kSnapshot: return false;
    case MessageKind::kHeartbeat:
    case MessageKind::kHeartbeatReply:
    case MessageKind::kPreVote:
    case MessageKind::kPreVoteReply:
    case MessageKind::kVote:
    case MessageKind::kVoteReply:
    case MessageKind::kTimeoutNow: return true;
  }
  return false;
}

}  // namespace

struct Peer {
  Peer(const std::shared_ptr<TransportCore>& core, MemberId id, std::string the_node_id,
       std::string the_address)
      : node_id(std::move(the_node_id)),
        address(std::move(the_address)),
        heartbeats(std::make_shared<Lane>(core, id, node_id, address, "heartbeat")),
        entries(std::make_shared<Lane>(core, id, node_id, address, "append")) {
    heartbeats->start();
    entries->start();
  }
  void end(bool goodbye) const {
    heartbeats->end(goodbye);
    entries->end(goodbye);
  }
  void cancel() const {
    heartbeats->cancel();
    entries->cancel();
  }

  const std::string node_id;
  const std::string address;
  const std::shared_ptr<Lane> heartbeats;
  const std::shared_ptr<Lane> entries;
};

GrpcTransport::GrpcTransport(GrpcTransportOptions options, ChannelFactory channels,
                             TransportEvents& events, Log log)
    : core_(std::make_shared<TransportCore>(std::move(options), std::move(channels), events,
                                            std::move(log))),
      inbound_(std::make_shared<Inbound>(core_)),
      snapshots_(std::make_shared<SnapshotQueue>(core_)) {}

GrpcTransport::~GrpcTransport() {
  stop();
}

std::shared_ptr<Inbound> GrpcTransport::inbound() const {
  return inbound_;
}

void GrpcTransport::set_members(const Members& members) {
  std::vector<std::shared_ptr<Peer>> ended;
  std::vector<MemberId> gone;
  std::shared_ptr<const Members> former;
  {
    std::lock_guard lock(mutex_);
    if (stopped_) return;
    former = core_->replace_members(members);
    for (auto it = peers_.begin(); it != peers_.end();) {
      const Member* member = members.find(it->first);
      const bool listed_before = former->find(it->first) != nullptr;
      const bool keep = member == nullptr ? !listed_before
                                          : member->address == it->second->address &&
                                                member->node_id == it->second->node_id;
      if (!keep) {
        if (member == nullptr) gone.push_back(it->first);
        ended.push_back(std::move(it->second));
      }
      it = keep ? std::next(it) : peers_.erase(it);
    }
    for (const Member& member : members.list) {
      if (member.id == core_->options.self || peers_.contains(member.id)) continue;
      peers_[member.id] = std::make_shared<Peer>(core_, member.id, member.node_id, member.address);
    }
  }
  for (const auto& peer : ended) peer->end(false);
  core_->work.post([core = core_, inbound = inbound_, snapshots = snapshots_, former, gone] {
    for (const MemberId id : gone) {
      core->watch.forget(id);
      snapshots->abandon(id);
    }
    inbound->members_changed(*former);
  });
}

std::shared_ptr<Peer> GrpcTransport::peer(MemberId id) {
  std::lock_guard lock(mutex_);
  if (stopped_) return nullptr;
  if (const auto found = peers_.find(id); found != peers_.end()) return found->second;
  // A manager that this member's list does not have, but that spoke to it.
  std::string address = core_->address_of(id);
  if (address.empty() || id == core_->options.self) return nullptr;
  return peers_[id] = std::make_shared<Peer>(core_, id, std::string(), std::move(address));
}

void GrpcTransport::send(Message message) {
  MUSTER_CHECK(message.kind != MessageKind::kSnapshot, "snapshots have a body");
  const MemberId to = message.to;
  if (const std::shared_ptr<Peer> found = peer(to)) {
    (is_urgent(message.kind) ? found->heartbeats : found->entries)->send(std::move(message));
  } else {
    core_->unreachable(to);
  }
}

void GrpcTransport::send_snapshot(Message message, std::unique_ptr<SnapshotReader> body) {
  MUSTER_CHECK(message.kind == MessageKind::kSnapshot, "only snapshots have a body");
  snapshots_->submit(std::move(message), std::move(body));
}

void GrpcTransport::stop() {
  std::map<MemberId, std::shared_ptr<Peer>> peers;
  {
    std::lock_guard lock(mutex_);
    if (std::exchange(stopped_, true)) return;
    peers.swap(peers_);
  }
  for (const auto& [id, peer] : peers) peer->end(true);
  inbound_->say_goodbye();
  core_->work.post([snapshots = snapshots_] { snapshots->abandon_all(); });
  if (!core_->streams.wait_for_none(core_->options.goodbye_max)) {
    for (const auto& [id, peer] : peers) peer->cancel();
    inbound_->cancel();
    core_->streams.wait_for_none(kCancelMax);
  }
  core_->gate.close();
  core_->probe.stop();
  core_->work.stop();
  core_->disk.stop();
}

}  // namespace muster::raft
