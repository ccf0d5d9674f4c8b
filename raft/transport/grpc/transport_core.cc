#include "raft/transport/grpc/transport_core.h"

#include <fmt/format.h>

#include <vector>

#include "raft/transport/grpc/inbound.h"

namespace muster::raft {

TransportCore::TransportCore(GrpcTransportOptions the_options, ChannelFactory the_channels,
                             TransportEvents& events, Log the_log)
    : options(std::move(the_options)),
      channels(std::move(the_channels)),
      log(std::move(the_log)),
      gate(events),
      probe({options.probe_max, TcpProbe::Limits{}.watched}),
      members_(std::make_shared<const Members>()) {}

Hello TransportCore::hello(MemberId to) const {
  return {options.cluster_id, options.self, to, options.address};
}

std::shared_ptr<const Members> TransportCore::members() const {
  std::lock_guard lock(mutex_);
  return members_;
}

std::string TransportCore::address_of(MemberId id) const {
  const std::shared_ptr<const Members> list = members();
  if (const Member* member = list->find(id)) return member->address;
  const std::shared_ptr<Inbound> callers = inbound.lock();
  return callers == nullptr ? std::string() : callers->address_of(id);
}

std::string TransportCore::node_of(MemberId id) const {
  const std::shared_ptr<const Members> list = members();
  if (const Member* member = list->find(id)) return member->node_id;
  const std::shared_ptr<Inbound> callers = inbound.lock();
  return callers == nullptr ? std::string() : callers->node_of(id);
}

bool TransportCore::knows(MemberId id) const {
  if (members()->find(id) != nullptr) return true;
  const std::shared_ptr<Inbound> callers = inbound.lock();
  return callers != nullptr && !callers->node_of(id).empty();
}

std::shared_ptr<const Members> TransportCore::replace_members(const Members& members) {
  auto next = std::make_shared<const Members>(members);
  std::lock_guard lock(mutex_);
  return std::exchange(members_, std::move(next));
}

void TransportCore::unreachable(MemberId peer) {
  work.post([self = shared_from_this(), peer] {
    self->gate.tell([&](TransportEvents& events) { events.unreachable(peer); });
  });
}

void TransportCore::removed(MemberId by) {
  work.post([self = shared_from_this(), by] {
    self->gate.tell([&](TransportEvents& events) { events.removed(by); });
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

void TransportCore::lost(MemberId peer, std::string address) {
  work.post([self = shared_from_this(), peer, address = std::move(address)] {
    if (self->watch.lost(peer)) self->ask_for(peer, address);
  });
}

void TransportCore::retire(MemberId peer) {
  work.post([self = shared_from_this(), peer] {
    if (!self->knows(peer)) self->watch.retire(peer);  // it may be back
  });
}

void TransportCore::ask_for(MemberId peer, const std::string& address) {
  const std::string known = address_of(peer);
  const std::string& there = known.empty() ? address : known;
  probe.start(there, [self = shared_from_this(), peer, there](ProbeResult result) {
    self->work.post([self, peer, there, result] { self->probed(peer, there, result); });
  });
}

void TransportCore::probed(MemberId peer, const std::string& address, ProbeResult result) {
  switch (watch.probed(peer, result)) {
    case PeerWatch::Next::kNothing: break;
    case PeerWatch::Next::kProbeAgain: ask_for(peer, address); break;
    case PeerWatch::Next::kVanished:
      log->warn("member {:x} at {} is gone: its connection broke and nobody listens there",
                peer.value, address);
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
