// The worker's health checks: one probe at a time per container, on the health pool.

#include <algorithm>
#include <utility>

#include "agent/worker/worker_entry.h"

namespace muster::agent {

void Worker::watch_health(Entry& entry) {
  const v1::LocalTask& task = entry.machine.task();
  auto plan = plan_health(task.revision().spec().container().healthcheck(),
                          task.image_healthcheck(), task.image_shell());
  if (!plan) return;
  const TimePoint at = deps_.strand.clock().now();
  // An adopted container goes on where it was: with its start period, state and failing streak.
  const Duration age = now() - WallTime{task.started_at_ns()};
  const bool known_age = task.started_at_ns() > 0 && age > Duration(0);
  const v1::Health& known = task.status().health();
  entry.health.emplace(*std::move(plan), known_age ? at - age : at, known);
  Duration delay = entry.health->next_delay(at);
  if (!known.probes().empty()) {
    const WallTime last{known.probes(known.probes_size() - 1).ended_at_ns()};
    delay = std::clamp(delay - (now() - last), Duration(0), delay);
  }
  entry.health_timer =
      deps_.strand.after(delay, [this, id = entry.task_id()] { probe_health(id); });
}

void Worker::probe_health(const Id& task_id) {
  Entry* entry = find(task_id);
  if (entry == nullptr || !entry->health || !entry->machine.up()) return;
  entry->health_timer = 0;
  const std::string container = entry->machine.task().container_id();
  deps_.health_pool.post([this, self = self_, strand = &deps_.strand, probe = &deps_.health,
                          task_id, container, directory = paths_.container(container),
                          plan = entry->health->plan()] {
    // Waiting for a free thread is no part of the probe.
    const TimePoint began = strand->clock().now();
    HealthResult result = probe->run(container, directory, plan.command, plan.timeout);
    strand->post([this, self, task_id, began, result = std::move(result)] {
      if (*self != nullptr) health_finished(task_id, result, began);
    });
  });
}

void Worker::health_finished(const Id& task_id, const HealthResult& result, TimePoint began) {
  Entry* entry = find(task_id);
  if (entry == nullptr || !entry->health || !entry->machine.up()) return;
  const TimePoint at = deps_.strand.clock().now();
  if (!result.gone) {
    const bool news = entry->health->probed(result, began, now() - (at - began), now());
    run(*entry, entry->machine.probed(entry->health->health(), news, now()));
    if (!entry->machine.up()) return;
  }
  // If the container is gone, its exit is about to be told and ends this, too.
  entry->health_timer =
      deps_.strand.after(entry->health->next_delay(at), [this, task_id] { probe_health(task_id); });
}

}  // namespace muster::agent
