// The worker's look at connections: a task that drains gets its stop signal when it has none.

#include <algorithm>
#include <utility>

#include "agent/worker/worker_entry.h"
#include "base/time.h"

namespace muster::agent {
namespace {

// Who was given the task's own address (dnsrr, tasks.NAME) just before every node let go of it may
// be about to call.
constexpr Duration kFirstLook = 100ms;
// A request is often over within the first look or two; a download takes as long as it takes.
constexpr Duration kFirstDelay = 50ms;
constexpr Duration kDelayMax = 500ms;

}  // namespace

void Worker::watch_flows(const Id& task_id) {
  Entry* entry = find(task_id);
  if (entry == nullptr || !entry->machine.watches_flows()) return;
  entry->flow_timer = deps_.strand.after(kFirstLook, [this, task_id] { look_at_flows(task_id); });
}

void Worker::look_at_flows(const Id& task_id) {
  Entry* entry = find(task_id);
  if (entry == nullptr || !entry->machine.watches_flows()) return;
  entry->flow_timer = 0;
  if (deps_.flows == nullptr) return flows_seen(task_id, false);
  deps_.step_pool.post([this, self = self_, strand = &deps_.strand, flows = deps_.flows, task_id,
                        container = entry->machine.task().container_id()] {
    auto any = flows->any(container);
    strand->post([this, self, task_id, any = std::move(any)] {
      if (*self != nullptr) flows_seen(task_id, any);
    });
  });
}

void Worker::flows_seen(const Id& task_id, const Result<bool>& any) {
  Entry* entry = find(task_id);
  if (entry == nullptr || !entry->machine.watches_flows()) return;
  if (any && !*any) return run(*entry, entry->machine.flows_ended(now()));
  if (!any && entry->flow_delay == Duration(0)) {
    // As if it had some: the drain time ends this, too.
    deps_.log->warn("connections of task {} cannot be seen: {}", task_id, any.error().message());
  }
  entry->flow_delay = std::clamp(entry->flow_delay * 2, kFirstDelay, kDelayMax);
  entry->flow_timer =
      deps_.strand.after(entry->flow_delay, [this, task_id] { look_at_flows(task_id); });
}

// Clients see it and ask why.
void Worker::tell_unended_flows(const Entry& entry) {
  const v1::Task& task = entry.machine.task().assignment().task();
  deps_.log->info(
      "task {} ({}) is stopped after its drain time of {}: not all of its connections are known to "
      "have ended",
      task.name(), task.id(), format_duration(Duration(task.drain().timeout_ns())));
}

}  // namespace muster::agent
