// No task gets its stop signal while somebody leads connections to it (W8), and nobody is without a
// task of a service who could be led to one (W11).
#include <fmt/format.h>

#include <algorithm>
#include <variant>

#include "manager/dispatcher/network_feed.h"
#include "manager/drainer/drainer.h"
#include "tests/sim/sim_rules.h"

namespace muster::sim {

namespace store = manager::store;

namespace {

// Managers' clocks run fast or slow.
constexpr Duration kWaited = manager::drainer::kDefaultAckTimeout / 2;

// Only who is in an overlay network is led there; in the ingress network, whoever comes.
bool leads_anybody(const SimHost& host, const v1::Network& network) {
  if (network.spec().ingress()) return true;
  return std::any_of(host.tasks().begin(), host.tasks().end(), [&](const auto& entry) {
    const SimHost::Container& container = entry.second;
    return container.alive &&
           std::any_of(container.task.networks().begin(), container.task.networks().end(),
                       [&](const auto& in) { return in.network_id() == network.id(); });
  });
}

// In a network in which the leader knows of the host, and that the task did not leave before: its
// interface there went with its connection by hand, and nobody waited for that.
bool leads_to(const SimHost& host, const v1::Task& task, const SimRules::Served& served) {
  const auto& routes = host.network().routes();
  return std::any_of(task.networks().begin(), task.networks().end(), [&](const auto& attachment) {
    const auto route = routes.find(attachment.network_id());
    if (route == routes.end()) return false;
    const auto at = route->second.endpoints.find(task.id());
    return at != route->second.endpoints.end() && at->second.state() == v1::ENDPOINT_READY &&
           served(host.id(), route->first) && leads_anybody(host, route->second.network);
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
      event.after.each<v1::Task>([&](const store::Ptr<v1::Task>& task) {
        const auto node = event.after.get<v1::Node>(task->node_id());
        if (task->service_id() != change->after->service_id() ||
            manager::dispatcher::shown_state(*task, node.get()) != v1::ENDPOINT_READY) {
          return true;
        }
        for (const auto& attachment : task->networks()) {
          leaving.others[task->id()].insert(attachment.network_id());
        }
        return true;
      });
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

const SimRules::Leaving* SimRules::lets_go(const SimHost& host, const std::string& task_id) const {
  const auto leaving = leaving_.find(task_id);
  if (leaving == leaving_.end() || world_.now() - leaving->second.since >= kWaited) return nullptr;
  const auto session = leaving->second.sessions.find(host.id());
  const bool same = session != leaving->second.sessions.end() && session->second == host.links();
  return same && !host.seen_ill(task_id) ? &leaving->second : nullptr;
}

store::Ptr<v1::Task> SimRules::takes_its_place(const SimHost& host, const Leaving& leaving,
                                               const std::string& network_id) const {
  for (const auto& [id, networks] : leaving.others) {
    const auto task = before_.get<v1::Task>(id);
    if (!networks.contains(network_id) || task == nullptr || task->node_id() == host.id()) continue;
    const auto node = before_.get<v1::Node>(task->node_id());
    if (manager::dispatcher::shown_state(*task, node.get()) == v1::ENDPOINT_READY) return task;
  }
  return nullptr;
}

// Who was there to take the place of one that is let go is led to when that one is passed by: the
// network's feed tells of the one before the other, or of both at once. Of hosts with a session all
// the while; one that comes back may hear first that its task was let go meanwhile.
void SimRules::on_passed_by(const SimHost& host, const std::string& network_id,
                            const std::string& task_id) const {
  const Leaving* leaving = lets_go(host, task_id);
  const auto route = host.network().routes().find(network_id);
  const auto passed_by = before_.get<v1::Task>(task_id);
  if (leaving == nullptr || route == host.network().routes().end() || passed_by == nullptr) return;
  const auto& known = route->second.endpoints;
  const bool any = std::any_of(known.begin(), known.end(), [&](const auto& entry) {
    return entry.second.service_id() == passed_by->service_id() &&
           entry.second.state() == v1::ENDPOINT_READY;
  });
  if (any) return;
  const auto other = takes_its_place(host, *leaving, network_id);
  if (other == nullptr) return;
  broken_(fmt::format(
      "{} leads nobody to {} any more, which is let go, and not yet to {}, which was ready before "
      "(W11)",
      host.id(), passed_by->name(), other->name()));
}

// The same of ports.
void SimRules::on_port_closed(const SimHost& host, const overlay::PublishedPort& port) const {
  const auto service = before_.get<v1::Service>(port.owner);
  if (service == nullptr || port.port.local()) return;
  const auto& ports = service->endpoint().ports();
  const bool wanted = std::any_of(ports.begin(), ports.end(), [&](const v1::PortConfig& now) {
    return now.mode() == v1::PortConfig::INGRESS && now.target_port() == port.port.target_port() &&
           now.published_port() == port.port.published_port();
  });
  if (!wanted) return;
  for (const auto& [task_id, at] : leaving_) {
    const auto task = before_.get<v1::Task>(task_id);
    if (task == nullptr || task->service_id() != port.owner || task->node_id() != host.id())
      continue;
    const Leaving* leaving = lets_go(host, task_id);
    if (leaving == nullptr) continue;
    for (const auto& [network_id, route] : host.network().routes()) {
      if (!route.network.spec().ingress()) continue;
      const auto other = takes_its_place(host, *leaving, network_id);
      if (other == nullptr) continue;
      return broken_(
          fmt::format("port {} of {} leads nowhere on {}, where {} is let go, although {} was "
                      "ready before (W11)",
                      port.port.published_port(), service->spec().annotations().name(), host.id(),
                      task->name(), other->name()));
    }
  }
}

}  // namespace muster::sim
