// No task gets its stop signal while somebody leads connections to it (W8).
#include <fmt/format.h>

#include <algorithm>
#include <variant>

#include "manager/drainer/drainer.h"
#include "tests/sim/sim_rules.h"

namespace muster::sim {

namespace store = manager::store;

namespace {

// Managers' clocks run fast or slow.
constexpr Duration kWaited = manager::drainer::kDefaultAckTimeout / 2;

// In a network in which the leader knows of the host, and that the task did not leave before: its
// interface there went with its connection by hand, and nobody waited for that.
bool leads_to(const SimHost& host, const v1::Task& task, const SimRules::Served& served) {
  const auto& routes = host.network().routes();
  return std::any_of(task.networks().begin(), task.networks().end(), [&](const auto& attachment) {
    const auto route = routes.find(attachment.network_id());
    if (route == routes.end()) return false;
    const auto at = route->second.endpoints.find(task.id());
    return at != route->second.endpoints.end() && at->second.state() == v1::ENDPOINT_READY &&
           served(host.id(), route->first);
  });
}

}  // namespace

void SimRules::note_leaving(const store::CommitEvent& event) {
  for (const store::AnyChange& any : *event.changes) {
    const auto* change = std::get_if<store::Change<v1::Task>>(&any);
    if (change == nullptr) continue;
    const bool was =
        change->before != nullptr && change->before->endpoint_state() >= v1::ENDPOINT_DRAINING;
    const bool is = change->after != nullptr && change->after->has_drain() &&
                    change->after->endpoint_state() >= v1::ENDPOINT_DRAINING;
    if (!is) {
      leaving_.erase((change->after ? change->after : change->before)->id());
    } else if (!was) {
      Leaving& leaving = leaving_[change->after->id()];
      leaving.since = world_.now();
      for (const auto& host : hosts_) {
        if (host->established()) leaving.sessions[host->id()] = host->links();
      }
    }
  }
}

void SimRules::on_stop(const SimHost& host, const SimHost::Container& container,
                       const Served& served) const {
  const auto leaving = leaving_.find(container.task.id());
  // The node has left, or the service is gone: nobody waits for anything.
  if (leaving == leaving_.end() || container.removed || !container.task.has_drain()) return;
  if (world_.now() - leaving->second.since >= kWaited) return;
  const auto stored = before_.get<v1::Task>(container.task.id());
  for (const auto& other : hosts_) {
    const auto then = leaving->second.sessions.find(other->id());
    const bool alive = other->established() && then != leaving->second.sessions.end() &&
                       then->second == other->links();
    const auto node = before_.get<v1::Node>(other->id());
    const bool up = node != nullptr && node->status().state() == v1::NodeStatus::READY;
    if (!alive || !up || !leads_to(*other, stored ? *stored : container.task, served)) continue;
    broken_(
        fmt::format("{} is stopped on {} while {} leads connections to it, {} after it was told "
                    "to leave; it is {} there, {} in the store (W8)",
                    container.task.name(), host.id(), other->id(),
                    format_duration(world_.now() - leaving->second.since),
                    v1::EndpointState_Name(container.task.endpoint_state()),
                    stored ? v1::EndpointState_Name(stored->endpoint_state()) : "gone"));
  }
}

}  // namespace muster::sim
