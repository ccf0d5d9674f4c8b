#include "tests/sim/log/sim_log_network.h"

#include <algorithm>
#include <string>
#include <vector>

namespace muster::sim {

using raft::MemberId;
using raft::Message;

class SimLogNetwork::End final : public raft::Transport {
 public:
  End(SimLogNetwork& network, MemberId self, raft::TransportEvents& events)
      : network_(network),
        self_(self),
        events_(events),
        strand_(network.world_),
        life_(++network.lives_) {
    network_.ends_[self] = this;
    network_.known_.insert(self);
  }
  ~End() override { leave(false); }

  void set_members(const raft::Members& members) override {
    members_.clear();
    for (const raft::Member& member : members.list) members_.insert(member.id);
  }
  void send(Message message) override;
  void flush() override {}
  void send_snapshot(Message message, std::unique_ptr<raft::SnapshotReader> body) override;
  void stop() override { leave(true); }

 private:
  friend class SimLogNetwork;
  struct Outgoing {
    Message message;
    std::unique_ptr<raft::SnapshotReader> body;
    std::unique_ptr<raft::SnapshotWriter> into;  // at the other end
    uint64_t receiver_life = 0;
    uint64_t number = 0;
  };

  bool reaches(MemberId to) const { return members_.contains(to) || heard_.contains(to); }
  void leave(bool goodbye);
  void deliver(const Message& message);
  void pump(std::shared_ptr<Outgoing> snapshot);
  void ended(const Outgoing& snapshot, const Status& status);

  SimLogNetwork& network_;
  MemberId self_;
  raft::TransportEvents& events_;
  SimExecutor strand_;
  const uint64_t life_;
  bool left_ = false;
  std::set<MemberId> members_;
  std::set<MemberId> heard_;
  std::map<MemberId, uint64_t> sending_;  // the snapshot under way, by number
  uint64_t numbers_ = 0;
};

std::unique_ptr<raft::Transport> SimLogNetwork::open(MemberId self, raft::TransportEvents& events) {
  return std::make_unique<End>(*this, self, events);
}

void SimLogNetwork::kill(MemberId id) {
  if (const auto end = ends_.find(id); end != ends_.end()) end->second->leave(false);
}

void SimLogNetwork::isolate(MemberId id) {
  for (const MemberId other : known_) {
    if (other == id) continue;
    cut(id, other);
    cut(other, id);
  }
}

void SimLogNetwork::mend(MemberId id) {
  std::erase_if(cut_, [id](const auto& pair) { return pair.first == id || pair.second == id; });
}

Duration SimLogNetwork::latency() {
  const auto spread = static_cast<uint64_t>((weather_.latency_max - weather_.latency_min).count());
  return weather_.latency_min + Duration(rng_.below(spread + 1));
}

// What the others see of the end of a process.
void SimLogNetwork::End::leave(bool goodbye) {
  if (std::exchange(left_, true)) return;
  network_.ends_.erase(self_);
  for (const auto& [id, end] : network_.ends_) {
    if (network_.cut_.contains({self_, id}) || network_.cut_.contains({id, self_})) continue;
    if (!end->reaches(self_)) continue;
    // A connection's end comes after what was sent over it.
    const Duration after = network_.weather_.latency_max + network_.latency();
    end->strand_.after(after, [end = end, self = self_, goodbye] {
      if (end->left_) return;
      if (goodbye) return end->events_.said_goodbye(self);
      end->events_.vanished(self);
    });
  }
}

void SimLogNetwork::End::send(Message message) {
  if (left_) return;
  if (network_.watch) network_.watch(message);
  const MemberId to = message.to;
  const auto other = network_.ends_.find(to);
  const bool there = other != network_.ends_.end() && reaches(to) && network_.admitted(self_, to);
  const bool lost = network_.rng_.below(1000) < network_.weather_.lost_permille ||
                    (network_.lose && network_.lose(message));
  if (!there || lost || network_.cut_.contains({self_, to})) {
    // Found out later, if at all.
    strand_.after(network_.latency(), [this, to] {
      if (!left_) events_.unreachable(to);
    });
    return;
  }
  const bool doubled = network_.rng_.below(1000) < network_.weather_.doubled_permille;
  for (int copies = doubled ? 2 : 1; copies > 0; --copies) {
    other->second->strand_.after(network_.latency(),
                                 [end = other->second, message] { end->deliver(message); });
  }
}

void SimLogNetwork::End::deliver(const Message& message) {
  if (left_ || network_.cut_.contains({message.from, self_})) return;
  if (network_.removed && !members_.contains(message.from) &&
      network_.removed(self_, message.from)) {
    const auto other = network_.ends_.find(message.from);
    if (other == network_.ends_.end()) return;
    other->second->strand_.after(network_.latency(), [end = other->second, by = self_] {
      if (!end->left_) end->events_.removed(by);
    });
    return;
  }
  heard_.insert(message.from);
  events_.received(message);
}

void SimLogNetwork::End::send_snapshot(Message message,
                                       std::unique_ptr<raft::SnapshotReader> body) {
  auto snapshot = std::make_shared<Outgoing>();
  snapshot->message = std::move(message);
  snapshot->body = std::move(body);
  snapshot->number = ++numbers_;
  sending_[snapshot->message.to] = snapshot->number;
  strand_.after(network_.latency(), [this, snapshot] { pump(snapshot); });
}

// A piece each time, cut anywhere.
void SimLogNetwork::End::pump(std::shared_ptr<Outgoing> snapshot) {
  const Message& message = snapshot->message;
  if (left_) return;
  if (sending_[message.to] != snapshot->number) return;  // replaced by a newer one
  const auto other = network_.ends_.find(message.to);
  if (other == network_.ends_.end() || network_.cut_.contains({self_, message.to}) ||
      !reaches(message.to) || !network_.admitted(self_, message.to)) {
    return ended(*snapshot, unavailable("the other end is gone"));
  }
  if (snapshot->into == nullptr) {
    auto into = other->second->events_.snapshot_arrives(message);
    if (!into) return ended(*snapshot, into.error());
    snapshot->into = *std::move(into);
    snapshot->receiver_life = other->second->life_;
  }
  if (snapshot->receiver_life != other->second->life_) {
    return ended(*snapshot, unavailable("the other end has begun anew"));
  }
  auto piece = snapshot->body->next();
  if (!piece) return ended(*snapshot, piece.error());
  if (piece->empty()) {
    const Status finished = snapshot->into->finish();
    snapshot->into.reset();
    if (finished.ok()) other->second->deliver(message);
    return ended(*snapshot, finished);
  }
  const size_t middle = network_.rng_.below(piece->size() + 1);
  Status status = snapshot->into->write(std::string_view(*piece).substr(0, middle));
  if (status.ok()) status = snapshot->into->write(std::string_view(*piece).substr(middle));
  if (!status.ok()) return ended(*snapshot, status);
  strand_.after(network_.latency(), [this, snapshot] { pump(snapshot); });
}

void SimLogNetwork::End::ended(const Outgoing& snapshot, const Status& status) {
  sending_.erase(snapshot.message.to);
  if (network_.on_snapshot) network_.on_snapshot(status.ok());
  events_.snapshot_sent(snapshot.message.to, status);
}

}  // namespace muster::sim
