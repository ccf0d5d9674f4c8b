#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/time.h"

namespace muster::manager::drainer {

// Tasks on their way out of their networks, and the nodes that have yet to say that they lead new
// flows elsewhere. Pure.
//
// Tasks that left by one commit, out of the same networks, wait together: an acknowledgement costs
// the number of commits that are waited for, not that of tasks.
class DrainBook {
 public:
  // Which version of a network's feed each node in it has applied.
  using Routers = std::map<std::string, uint64_t>;

  // `version`: of the commit since which no flow should be led to the task. `routers` is asked for
  // each network, unless others wait for the same already. A task that is known stays as it is.
  void add(const std::string& task_id, uint64_t version, const std::vector<std::string>& networks,
           TimePoint deadline, const std::function<Routers(const std::string&)>& routers);
  // It is nobody's business any more.
  void remove(const std::string& task_id);

  // A node in the network has applied this version; it may be news that it is in it.
  void routes(const std::string& node_id, const std::string& network_id, uint64_t version);
  // A node is in the network no more.
  void leaves(const std::string& node_id, const std::string& network_id);
  // Nothing is awaited of the node.
  void gone(const std::string& node_id);

  struct Released {
    std::string task_id;
    std::vector<std::string> missing;  // nodes that did not say it in time
  };
  // Tasks that are waited for no more; they are forgotten.
  std::vector<Released> take_released(TimePoint now);
  // When take_released() has something to give, if nothing happens before.
  std::optional<TimePoint> next_deadline() const;
  size_t size() const { return tasks_.size(); }

 private:
  using Key = std::pair<uint64_t, std::vector<std::string>>;  // version, networks in order
  struct Group {
    std::set<std::string> tasks;
    TimePoint deadline;
    std::map<std::string, std::set<std::string>, std::less<>> awaited;  // nodes, by network

    bool complete() const;
    std::vector<std::string> missing() const;
  };

  std::map<Key, Group> groups_;
  std::map<std::string, Key> tasks_;
};

}  // namespace muster::manager::drainer
