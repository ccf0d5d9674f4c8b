// The worker's names: what the resolver of this node's containers is told of its tasks.
#include <utility>

#include "agent/worker/container_plan.h"
#include "agent/worker/mutant.h"
#include "agent/worker/worker.h"
#include "agent/worker/worker_entry.h"

namespace muster::agent {

// A name leads to a task only when the kernel does, too.
void Worker::names_changed(const Entry& entry) {
  const v1::LocalTask& task = entry.machine.task();
  if (deps_.names == nullptr || task.host_network()) return;
  if (task.assignment().task().networks_size() == 0) return;
  if (!entry.machine.routable() || !routes_.behind(task)) return tell_names(entry);
  routes_.after_task(task, [this, id = entry.task_id()] {
    const Entry* found = find(id);
    if (found != nullptr && !found->machine.ended()) tell_names(*found);
  });
}

void Worker::tell_names(const Entry& entry) {
  deps_.names->set_task(entry.machine.task());
}

// Of the containers that run already. One without a record of its resolver was started without one
// and keeps what it has.
void Worker::adopt_names() {
  if (deps_.names == nullptr) return;
  for (const auto& [id, entry] : entries_) {
    const v1::LocalTask& task = entry->machine.task();
    if (entry->machine.ended() || !task.started()) continue;
    // At once: the kernel leads there as before, and a name must not go and come back.
    if (!task.host_network() && task.assignment().task().networks_size() != 0) tell_names(*entry);
    if (const auto container = steps_.resolver_of(task.container_id())) {
      deps_.names->adopt(*container);
    }
  }
}

void Worker::after_routes(UniqueFunction<void()> next) {
  if (fault(WorkerMutant::kSignalsTooEarly)) return next();
  after_ports([this, next = std::move(next)]() mutable {
    routes_.after_all([this, next = std::move(next)]() mutable { after_names(std::move(next)); });
  });
}

void Worker::after_names(UniqueFunction<void()> next) {
  if (deps_.names == nullptr) return next();
  deps_.names->after_applied(deps_.strand, [self = self_, next = std::move(next)]() mutable {
    if (*self != nullptr) next();
  });
}

}  // namespace muster::agent
