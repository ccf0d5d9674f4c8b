#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/time.h"
#include "muster/v1/objects.pb.h"
#include "scheduler/node_columns.h"
#include "scheduler/node_info.h"
#include "scheduler/task_shape.h"
#include "scheduler/task_table.h"

namespace muster::scheduler {

using TaskPtr = std::shared_ptr<const v1::Task>;

// The cluster as placement sees it: nodes, what the tasks on them hold, how the tasks of a service
// are spread, what failed where. Kept up to date change by change, in any order (a task may arrive
// before its node or its revision), so that a placement round rescans nothing. The result depends
// on what was put in alone, not on the order.
//
// Decisions of a round are charged at once (assume) and stay charged until the stored task says the
// same or something else (put_task), or the caller takes them back (forget).
//
// Not thread-safe; owned by whoever runs the rounds. About 150 bytes for a task that holds
// something, nothing for others.
class ClusterState {
 public:
  // Failures on a node that make it a last resort for tasks of that (service, revision), when they
  // happened within the window.
  static constexpr uint32_t kFailuresToAvoid = 5;
  static constexpr Duration kFailureWindow = 5min;

  void put_node(const v1::Node& node);
  void remove_node(std::string_view id);
  void put_revision(const v1::Revision& revision);
  void remove_revision(std::string_view service_id, uint64_t number);
  // What a network asks of nodes; of one that is gone nothing. `ingress`: published ports lead
  // through it, as they do through an overlay network always.
  struct NetworkNeeds {
    bool overlay = false;
    bool encrypted = false;
    bool ingress = false;
  };
  void set_network(const std::string& id, NetworkNeeds needs);
  // Whether such a task is in an overlay network, and whether some node cannot be in any.
  bool enters_overlays(const TaskShape& shape) const;
  bool some_lack_overlays() const { return lacking_overlays_ != 0; }
  // Whether such a task is in an encrypted network.
  bool encrypts(const TaskShape& shape) const;
  // Takes the newest form of a task. Counts a failure when a task that held something turns up
  // FAILED or REJECTED.
  void put_task(const TaskPtr& task);
  void remove_task(std::string_view id);
  // Counts a task that had already failed when the state was built.
  void note_failure(const v1::Task& task);

  // Charges `task` to the node as if it were ASSIGNED there.
  void assume(const TaskPtr& task, ShapeIndex shape, NodeIndex node,
              std::vector<v1::GenericResource> generics);
  // Takes an assumption back; false when there is none (any more).
  bool forget(std::string_view task_id);

  // By NodeIndex; entries that are not `present` are to be skipped.
  const std::vector<NodeInfo>& nodes() const { return nodes_; }
  // kNoIndex when nobody ever mentioned the node.
  NodeIndex find_node(std::string_view id) const;
  // Gives every node its rank in the order of ids, if nodes came or went since the last call.
  void refresh_ranks();

  // The shape of a (service, revision), which stays valid while it is retained.
  ShapeIndex retain_shape(std::string_view service_id, uint64_t revision);
  void release_shape(ShapeIndex shape);
  // Null while the revision has not arrived. Tasks without a service have the empty shape.
  const TaskShape* shape(ShapeIndex index) const;

  // Active tasks of the shape's service, by node; nullptr when there are none.
  using Counts = std::unordered_map<NodeIndex, uint32_t>;
  const Counts* service_tasks(ShapeIndex shape) const;
  // Failures of the shape within the window, by node. Forgets older ones.
  Counts recent_failures(ShapeIndex shape, WallTime now);

  NodeColumns& columns() { return columns_; }

  // What changed since the last call that may let an unplaced task be placed, or change the
  // explanation why it cannot.
  struct Changes {
    bool nodes = false;            // a node came, went or changed
    bool revisions = false;        // a revision arrived that tasks had been waiting for
    std::vector<NodeIndex> freed;  // a task there let go of something; may repeat
  };
  Changes take_changes();

 private:
  struct ShapeEntry {
    TaskShape shape;
    bool known = false;   // the revision has been seen
    bool stored = false;  // the revision is in the store and counts as a user
    ServiceIndex service = kNoIndex;
    uint32_t users = 0;  // tasks, pending groups, and the revision itself
    std::unordered_map<NodeIndex, std::vector<WallTime>> failures;
  };
  struct ServiceEntry {
    std::string id;
    std::vector<std::pair<uint64_t, ShapeIndex>> shapes;  // by revision
    Counts active;
  };
  struct TaskEntry {
    TaskPtr task;
    NodeIndex node = kNoIndex;
    ShapeIndex shape = kNoIndex;
    bool active = false;
    bool assumed = false;
    std::unique_ptr<std::vector<v1::GenericResource>> generics;
  };
  NodeIndex intern_node(std::string_view id);
  ServiceIndex intern_service(std::string_view id);
  void hold(TaskEntry& entry);
  void release(TaskEntry& entry);
  void set_active(TaskEntry& entry, bool active);
  void drop_task(TaskEntry& entry);
  void node_gone_if_unused(NodeIndex index);
  void add_failure(ShapeIndex shape, NodeIndex node, WallTime when);

  std::vector<NodeInfo> nodes_;
  std::unordered_map<std::string, NodeIndex> node_index_;
  std::vector<NodeIndex> free_nodes_;
  std::vector<ShapeEntry> shapes_;
  std::vector<ShapeIndex> free_shapes_;
  std::vector<ServiceEntry> services_;
  std::unordered_map<std::string, ServiceIndex> service_index_;
  std::vector<ServiceIndex> free_services_;
  TaskTable<TaskEntry> tasks_;
  NodeColumns columns_;
  Changes changes_;
  std::set<std::string> overlays_;         // network ids
  size_t lacking_overlays_ = 0;            // nodes that are present
  std::map<std::string, bool> encrypted_;  // network ids; true: the ingress network
  bool ranks_stale_ = false;
};

}  // namespace muster::scheduler
