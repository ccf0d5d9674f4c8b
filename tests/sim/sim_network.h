#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "agent/session/link.h"
#include "base/rng.h"
#include "base/sim_executor.h"
#include "manager/dispatcher/dispatcher.h"

namespace muster::sim {

// Streams between agents and the manager that lives, with delays. A node that is cut off loses what
// is under way and hears nothing of it, like a TCP connection over a broken cable: both ends find
// out by their own time-outs.
class SimNetwork {
 public:
  SimNetwork(SimWorld& world, Rng& rng) : world_(world), rng_(rng) {}

  // The manager that answers from now on; none before the first and after gone().
  void manager_up(SimExecutor& strand, manager::dispatcher::Dispatcher& dispatcher);
  void manager_gone();

  void cut(const std::string& node_id) { cut_.insert(node_id); }
  void mend(const std::string& node_id) { cut_.erase(node_id); }
  bool is_cut(const std::string& node_id) const { return cut_.contains(node_id); }

  // Told when the leader's dispatcher has a sign of life of a node, and of what breaks a rule.
  std::function<void(const std::string& node_id)> on_heard;
  std::function<void(std::string)> broken;
  // Whether the manager that serves takes the node's certificate, and it the manager's; whether it
  // is a manager's. Unset: nobody has one.
  std::function<Result<bool>(const std::string& node_id)> admit;
  // A session begins.
  std::function<void(const std::string& node_id)> on_welcome;

  std::unique_ptr<agent::ManagerLink> open(const std::string& node_id, SimExecutor& agent_strand,
                                           agent::LinkEvents events);

 private:
  class Wire;
  class AgentEnd;
  class ManagerEnd;

  Duration latency() { return Duration(1us) * static_cast<int64_t>(50 + rng_.below(2'000)); }

  SimWorld& world_;
  Rng& rng_;
  SimExecutor* manager_strand_ = nullptr;
  manager::dispatcher::Dispatcher* dispatcher_ = nullptr;
  std::set<std::string> cut_;
  std::vector<std::weak_ptr<Wire>> wires_;
  uint64_t wire_numbers_ = 0;
  std::map<std::string, uint64_t> welcomed_;  // by node: the newest wire with a session
};

}  // namespace muster::sim
