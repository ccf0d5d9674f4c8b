#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/time.h"
#include "muster/v1/objects.pb.h"

namespace muster::manager::orchestrator {

using TaskPtr = std::shared_ptr<const v1::Task>;

// What an evaluation wants written. Tasks to create have no id yet; the shell gives them one.
struct Plan {
  std::vector<v1::Task> create;
  std::vector<v1::Task> update;
  std::vector<std::string> remove;     // tasks
  std::optional<v1::Service> service;  // its update status changed
  std::vector<std::string> remove_revisions;
  std::optional<WallTime> wake;  // look again then, if nothing happens before
  // Tasks are left that have to leave their nodes and wait for their turn: whatever happens to a
  // task of the service is a reason to look at it as a whole.
  bool moves_left = false;

  bool empty() const {
    return create.empty() && update.empty() && remove.empty() && !service &&
           remove_revisions.empty();
  }
  void wake_at(WallTime t) {
    if (!wake || t < *wake) wake = t;
  }
};

}  // namespace muster::manager::orchestrator
