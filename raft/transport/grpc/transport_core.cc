#include "raft/transport/grpc/transport_core.h"

#include <fmt/format.h>

#include <vector>

namespace muster::raft {
namespace {

// Managers that are not in the list and spoke to this member; more than a group has.
constexpr size_t kStrangersMax = 32;

}  // namespace

TransportCore::TransportCore(GrpcTransportOptions the_options, ChannelFactory the_channels,
                             TransportEvents& events, Log the_log)
    : options(std::move(the_options)),
      channels(std::move(the_channels)),
      log(std::move(the_log)),
      gate(events),
      probe({options.probe_max, TcpProbe::Limits{}.watched}),
      members_(std::make_shared<const Members>()) {}

Hello TransportCore::hello(MemberId to) const {
  return {options.cluster_id, options.self, to, options.feature_level, options.address};
}

std::shared_ptr<const Members> TransportCore::members() const {
  std::lock_guard lock(mutex_);
  return members_;
}

std::string TransportCore::address_of(MemberId id) const {
  std::lock_guard lock(mutex_);
  if (const Member* member = members_->find(id)) return member->address;
  const auto stranger = strangers_.find(id);
  return stranger == strangers_.end() ? std::string() : stranger->second;
}

std::string TransportCore::node_of(MemberId id) const {
  std::lock_guard lock(mutex_);
  const Member* member = members_->find(id);
  return member == nullptr ? std::string() : member->node_id;
}

bool TransportCore::meet_stranger(MemberId id, std::string address) {
  std::lock_guard lock(mutex_);
  if (strangers_.size() >= kStrangersMax && !strangers_.contains(id)) return false;
  strangers_[id] = std::move(address);
  return true;
}

std::shared_ptr<const Members> TransportCore::replace_members(const Members& members) {
  std::lock_guard lock(mutex_);
  auto next = std::make_shared<const Members>(members);
  for (const Member& member : members.list) strangers_.erase(member.id);
  return std::exchange(members_, std::move(next));
}

void TransportCore::unreachable(MemberId peer) {
  work.post([self = shared_from_this(), peer] {
    self->gate.tell([&](TransportEvents& events) { events.unreachable(peer); });
  });
}

void TransportCore::removed() {
  work.post([self = shared_from_this()] {
    self->gate.tell([](TransportEvents& events) { events.removed(); });
  });
}

void TransportCore::established(MemberId peer) {
  work.post([self = shared_from_this(), peer] { self->watch.established(peer); });
}

void TransportCore::goodbye(MemberId peer) {
  work.post([self = shared_from_this(), peer] {
    if (!self->watch.goodbye(peer)) return;
    self->gate.tell([&](TransportEvents& events) { events.said_goodbye(peer); });
  });
}

void TransportCore::lost(MemberId peer) {
  work.post([self = shared_from_this(), peer] {
    if (self->watch.lost(peer)) self->ask_for(peer);
  });
}

void TransportCore::ask_for(MemberId peer) {
  probe.start(address_of(peer), [self = shared_from_this(), peer](ProbeResult result) {
    self->work.post([self, peer, result] { self->probed(peer, result); });
  });
}

void TransportCore::probed(MemberId peer, ProbeResult result) {
  switch (watch.probed(peer, result)) {
    case PeerWatch::Next::kNothing: break;
    case PeerWatch::Next::kProbeAgain: ask_for(peer); break;
    case PeerWatch::Next::kVanished:
      log->warn("member {:x} at {} is gone: its connection broke and nobody listens there",
                peer.value, address_of(peer));
      gate.tell([&](TransportEvents& events) { events.vanished(peer); });
      break;
  }
}

grpc::ByteBuffer to_buffer(Pieces pieces) {
  std::vector<grpc::Slice> slices;
  slices.reserve(pieces.size());
  for (Piece& piece : pieces) {
    auto* keep = new Piece(std::move(piece));
    const std::string_view bytes = keep->bytes();
    slices.emplace_back(
        const_cast<char*>(bytes.data()), bytes.size(),
        [](void* owner) { delete static_cast<Piece*>(owner); }, keep);
  }
  return grpc::ByteBuffer(slices.data(), slices.size());
}

}  // namespace muster::raft
