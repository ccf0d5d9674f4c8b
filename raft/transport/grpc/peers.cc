#include "raft/transport/grpc/peers.h"

#include <utility>

#include "raft/transport/grpc/lane.h"

namespace muster::raft {
namespace {

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

struct Peers::Peer {
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

std::optional<Peers::Replaced> Peers::replace(const Members& members) {
  std::vector<std::shared_ptr<Peer>> ended;
  Replaced out;
  {
    std::lock_guard lock(mutex_);
    if (stopped_) return std::nullopt;
    out.former = core_->replace_members(members);
    for (auto it = peers_.begin(); it != peers_.end();) {
      const Member* member = members.find(it->first);
      const bool listed_before = out.former->find(it->first) != nullptr;
      const bool keep = member == nullptr ? !listed_before
                                          : member->address == it->second->address &&
                                                member->node_id == it->second->node_id;
      if (!keep) {
        if (member == nullptr) out.gone.push_back(it->first);
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
  return out;
}

// Strangers are looked up under the lock: forget() comes after they are unknown, and so finds
// whatever was made for them.
std::shared_ptr<Peers::Peer> Peers::peer(MemberId id) {
  if (stopped_) return nullptr;
  if (const auto found = peers_.find(id); found != peers_.end()) return found->second;
  std::string address = core_->address_of(id);
  if (address.empty() || id == core_->options.self) return nullptr;
  return peers_[id] = std::make_shared<Peer>(core_, id, core_->node_of(id), std::move(address));
}

void Peers::send(Message message) {
  std::lock_guard lock(mutex_);
  const std::shared_ptr<Peer> found = peer(message.to);
  if (found == nullptr) return core_->unreachable(message.to);
  const auto& lane = is_urgent(message.kind) ? found->heartbeats : found->entries;
  lane->send(std::move(message));
  if (unflushed_.empty() || unflushed_.back() != lane) unflushed_.push_back(lane);
}

void Peers::flush() {
  std::vector<std::shared_ptr<Lane>> lanes;
  {
    std::lock_guard lock(mutex_);
    lanes.swap(unflushed_);
  }
  for (const auto& lane : lanes) lane->flush();
}

void Peers::forget(MemberId id) {
  std::shared_ptr<Peer> ended;
  {
    std::lock_guard lock(mutex_);
    const auto found = peers_.find(id);
    if (found == peers_.end() || core_->knows(id)) return;
    ended = std::move(found->second);
    peers_.erase(found);
  }
  ended->end(false);
}

std::vector<std::shared_ptr<Peers::Peer>> Peers::all() {
  std::vector<std::shared_ptr<Peer>> out;
  for (const auto& [id, peer] : peers_) out.push_back(peer);
  return out;
}

void Peers::stop() {
  std::vector<std::shared_ptr<Peer>> ended;
  {
    std::lock_guard lock(mutex_);
    if (std::exchange(stopped_, true)) return;
    ended = all();
  }
  for (const auto& peer : ended) peer->end(true);
}

void Peers::cancel() {
  std::vector<std::shared_ptr<Peer>> ended;
  {
    std::lock_guard lock(mutex_);
    ended = all();
  }
  for (const auto& peer : ended) peer->cancel();
}

}  // namespace muster::raft
