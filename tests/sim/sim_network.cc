#include "tests/sim/sim_network.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace muster::sim {

using manager::dispatcher::AgentConnection;
using manager::dispatcher::Dispatcher;

// One stream. Each direction keeps its order.
class SimNetwork::Wire : public std::enable_shared_from_this<Wire> {
 public:
  Wire(SimNetwork& network, std::string node_id, SimExecutor& agent_strand,
       agent::LinkEvents events)
      : network_(network),
        node_id_(std::move(node_id)),
        agent_strand_(&agent_strand),
        events_(std::move(events)),
        manager_strand_(network.manager_strand_),
        number_(++network.wire_numbers_) {}

  void begin(Dispatcher* dispatcher, std::shared_ptr<AgentConnection> connection) {
    if (manager_strand_ == nullptr) {
      agent_closed(unavailable("connection refused"));
      return;
    }
    to_manager([this, dispatcher, connection = std::move(connection)] {
      const auto manager = network_.admit ? network_.admit(node_id_) : Result<bool>(false);
      if (!manager) return agent_closed(manager.error());
      session_ = dispatcher->connect(node_id_, "ipv4:192.0.2.1:1", connection, *manager);
    });
  }

  void to_manager(UniqueFunction<void()> f) {
    if (!passes() || manager_strand_ == nullptr) return;
    manager_strand_->after(next(up_), [self = shared_from_this(), f = std::move(f)]() mutable {
      if (self->manager_strand_ != nullptr) f();
    });
  }
  void to_agent(UniqueFunction<void()> f) {
    if (!passes() || agent_strand_ == nullptr) return;
    agent_strand_->after(next(down_), [self = shared_from_this(), f = std::move(f)]() mutable {
      if (self->agent_strand_ != nullptr) f();
    });
  }

  void received(const v1::AgentMessage& message) {
    to_manager([this, message] {
      if (session_ == nullptr) return;
      const bool alive = message.has_hello() || message.has_heartbeat();
      if (alive && network_.on_heard) network_.on_heard(node_id_);
      session_->received(message);
    });
  }
  // A node has one session: who has welcomed a newer one says nothing in an older but that it ends
  // (M8).
  void check_session(const std::string& bytes) {
    if (manager_strand_ == nullptr || agent_strand_ == nullptr) return;  // nobody hears it
    v1::ManagerMessage message;
    if (!message.ParseFromString(bytes) || message.has_end()) return;
    uint64_t& newest = network_.welcomed_[node_id_];
    if (message.has_welcome()) newest = std::max(newest, number_);
    if (message.has_welcome() && network_.on_welcome) network_.on_welcome(node_id_);
    if (number_ < newest && network_.broken) {
      network_.broken(fmt::format("{} is served in a session that has a successor (M8): {}",
                                  node_id_, message.ShortDebugString().substr(0, 60)));
    }
  }
  void agent_hears(const std::string& bytes) {
    to_agent([this, bytes] {
      v1::ManagerMessage message;
      // A copy: the callback may end this link.
      const auto received = events_.received;
      if (message.ParseFromString(bytes)) received(std::move(message));
    });
  }
  void agent_closed(const Status& why) {
    to_agent([this, why] {
      const auto closed = events_.closed;
      if (!std::exchange(told_, true)) closed(why);
    });
  }
  // The agent's end is gone.
  void agent_gone() {
    agent_strand_ = nullptr;
    events_ = {};
    to_manager([this] { manager_closed(); });
  }
  // The manager's process is gone.
  void manager_gone() {
    if (manager_strand_ == nullptr) return;
    session_.reset();
    manager_strand_ = nullptr;
    agent_closed(unavailable("connection reset"));
  }
  // The dispatcher closed its end: what it sent arrives, then the end.
  void dispatcher_closed() {
    agent_closed(ok_status());
    if (manager_strand_ == nullptr) return;
    manager_strand_->after(Duration(1us), [self = shared_from_this()] { self->manager_closed(); });
  }

 private:
  bool passes() {
    broken_ = broken_ || network_.is_cut(node_id_);
    return !broken_;
  }
  Duration next(TimePoint& last) {
    const TimePoint now = network_.world_.now();
    last = std::max(last, now + network_.latency());
    return last - now;
  }
  void manager_closed() {
    if (const auto session = std::exchange(session_, nullptr)) session->closed();
  }

  SimNetwork& network_;
  const std::string node_id_;
  SimExecutor* agent_strand_;
  agent::LinkEvents events_;
  SimExecutor* manager_strand_;
  const uint64_t number_;
  std::shared_ptr<Dispatcher::Session> session_;
  bool broken_ = false;
  bool told_ = false;
  TimePoint up_;
  TimePoint down_;
};

class SimNetwork::AgentEnd final : public agent::ManagerLink {
 public:
  explicit AgentEnd(std::shared_ptr<Wire> wire) : wire_(std::move(wire)) {}
  ~AgentEnd() override { wire_->agent_gone(); }
  void send(const v1::AgentMessage& message) override { wire_->received(message); }
  void close_after_writes() override { wire_->agent_closed(ok_status()); }

 private:
  std::shared_ptr<Wire> wire_;
};

class SimNetwork::ManagerEnd final : public AgentConnection {
 public:
  explicit ManagerEnd(std::weak_ptr<Wire> wire) : wire_(std::move(wire)) {}
  void send(std::shared_ptr<const std::string> message) override {
    if (closed_) return;
    const auto wire = wire_.lock();
    if (wire == nullptr) return;
    wire->check_session(*message);
    wire->agent_hears(*message);
  }
  void send_first(std::shared_ptr<const std::string> message) override { send(std::move(message)); }
  size_t queued_bytes() const override { return 0; }
  void close() override {
    if (std::exchange(closed_, true)) return;
    if (const auto wire = wire_.lock()) wire->dispatcher_closed();
  }

 private:
  std::weak_ptr<Wire> wire_;
  bool closed_ = false;
};

void SimNetwork::manager_up(SimExecutor& strand, Dispatcher& dispatcher) {
  manager_strand_ = &strand;
  dispatcher_ = &dispatcher;
}

void SimNetwork::manager_gone() {
  manager_strand_ = nullptr;
  dispatcher_ = nullptr;
  for (const auto& weak : std::exchange(wires_, {})) {
    if (const auto wire = weak.lock()) wire->manager_gone();
  }
}

std::unique_ptr<agent::ManagerLink> SimNetwork::open(const std::string& node_id,
                                                     SimExecutor& agent_strand,
                                                     agent::LinkEvents events) {
  std::erase_if(wires_, [](const auto& wire) { return wire.expired(); });
  auto wire = std::make_shared<Wire>(*this, node_id, agent_strand, std::move(events));
  wires_.push_back(wire);
  wire->begin(dispatcher_, std::make_shared<ManagerEnd>(wire));
  return std::make_unique<AgentEnd>(std::move(wire));
}

}  // namespace muster::sim
