#pragma once

#include <string_view>

#include "manager/store/snapshot.h"

namespace muster::manager::store {

// Tasks that have left the network while they ran, and of which their nodes have not said yet that
// the containers are out of it (Task.left): their addresses are not free. Costs what is found.
void tasks_that_left(const Snapshot& view, std::string_view network_id,
                     const Snapshot::Visit<v1::Task>& visit);

}  // namespace muster::manager::store
