#pragma once

#include <memory>
#include <string>

#include "base/executor.h"
#include "manager/control/control_api.h"
#include "manager/store/store.h"
#include "raft/node/group.h"

namespace muster::manager::control {

// What makes a manager a worker is refused in Swarm's words: for the last manager, and when fewer
// than a majority of the managers left would answer. `group` is null where nobody knows of one.
// Pure.
Status check_demotion(const store::Snapshot& view, const raft::GroupView* group,
                      const v1::Node& node);

// Whether the node may be removed: not a manager, and not alive unless forced. Pure.
Status check_node_removal(const raft::GroupView* group, const v1::Node& node, bool force);

// Until when a removed node's certificate has to be refused: the latest end that any certificate of
// the node's can have, and an hour for hosts whose clocks differ.
int64_t certificate_end(const v1::Cluster& cluster, const v1::Node& node, WallTime now);

// One write of a node's removal: gives up to `tasks_max` of its tasks up as orphaned, and removes
// the node when none is left. `more`: it is to be called again. `manager_id`: this manager.
Status remove_node_in(store::Transaction& tx, const v1::Node& node, const std::string& manager_id,
                      size_t tasks_max, bool* more);

}  // namespace muster::manager::control
