#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>

namespace muster::manager::dispatcher {

// Which version of a network's feed each node that leads flows into the network has applied; 0 =
// none yet.
using Routers = std::map<std::string, uint64_t>;

// Hears of nodes that lead flows into networks, on the dispatcher's strand.
struct RouteEvents {
  // The node's session has the network's feed, which it has applied up to `version`. Again with
  // every acknowledgement.
  std::function<void(const std::string& node_id, const std::string& network_id, uint64_t version)>
      routes;
  // The node takes no part in the network any more.
  std::function<void(const std::string& node_id, const std::string& network_id)> leaves;
  // Its session has ended, or a new one begins, of which all is told anew.
  std::function<void(const std::string& node_id)> gone;
};

// Who leads flows where; a port of the dispatcher.
class Routes {
 public:
  virtual ~Routes() = default;
  // Replaces who listens; {} = nobody. Events come while a commit or a message is dealt with.
  virtual void listen(RouteEvents events) = 0;
  // The nodes with a session that take part in the network. And those that no session of this
  // leader was heard of yet and that its state has in the network: they are on their way.
  virtual Routers routers(const std::string& network_id) const = 0;
};

}  // namespace muster::manager::dispatcher
