#pragma once

#include <cstddef>
#include <string>

#include "manager/store/store.h"

namespace muster::manager::store {

struct GivenUp {
  size_t tasks = 0;
  bool more = false;  // the node has others that are to be given up
};

// Gives up to `max` tasks of a node up, of which nobody will hear again: they become ORPHANED,
// which frees what they hold (addresses, networks, revisions) and lets them be forgotten. `why`
// ends up in their status; `manager_id` is this manager.
Result<GivenUp> give_up_tasks(Transaction& tx, const std::string& node_id, const std::string& why,
                              const std::string& manager_id, size_t max);

}  // namespace muster::manager::store
