#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "scheduler/cluster_state.h"
#include "scheduler/node_info.h"
#include "scheduler/task_shape.h"

namespace muster::scheduler {

// A node asked to take one more task of a group.
struct Candidate {
  const NodeInfo& node;
  uint32_t service_tasks = 0;  // active tasks of the group's service on it
};

// One reason why a node may not take a task. Holds what it needs of the present group only.
class Filter {
 public:
  virtual ~Filter() = default;

  // Prepares for a group; both arguments outlive its scheduling. False when the filter has nothing
  // to ask of any node, which skips it.
  virtual bool set_group(const TaskShape& shape, ClusterState& state) = 0;
  virtual bool check(const Candidate& candidate) const = 0;
  // The filter's name in explanations: "ready", "constraint".
  virtual const char* name() const = 0;
  // Why check() turns this one node away, with the figures of both sides.
  virtual std::string why(const Candidate& candidate) const = 0;
  // Swarm's words for `nodes` nodes turned away (at least 1); scripts match on them.
  virtual std::string explain(size_t nodes) const = 0;
  // What exactly this node lacks, as phrases that go in front of "on 3 nodes"; none when explain()
  // says it all.
  virtual std::vector<std::string> details(const Candidate&) const { return {}; }
};

// "1 node" or "3 nodes".
std::string count_nodes(size_t nodes);

}  // namespace muster::scheduler
