// The worker's published ports: what its tasks want against what the kernel was told.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "agent/worker/container_plan.h"
#include "agent/worker/worker.h"
#include "agent/worker/worker_entry.h"

namespace muster::agent {
namespace {

// How often a port is tried again that another program of the host holds.
constexpr Duration kPortsRetry = 10s;

std::string started_without(const v1::PortConfig& port) {
  return fmt::format("started; port {} is in use on this node", port_name(port));
}

bool same_ports(const std::vector<overlay::PublishedPort>& a,
                const std::vector<overlay::PublishedPort>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const overlay::PublishedPort& x, const overlay::PublishedPort& y) {
                      return x.owner == y.owner && x.backends == y.backends &&
                             x.port.SerializeAsString() == y.port.SerializeAsString();
                    });
}

// Tasks of other nodes come behind the ports of this one's.
void add_far(const std::vector<overlay::PublishedPort>& far,
             std::vector<overlay::PublishedPort>& ports) {
  const size_t own_ports = ports.size();  // few; the far ones are as many as the cluster publishes
  for (const overlay::PublishedPort& port : far) {
    const auto end = ports.begin() + static_cast<ptrdiff_t>(own_ports);
    const auto own = std::find_if(ports.begin(), end, [&](const auto& candidate) {
      return candidate.owner == port.owner && candidate.port.protocol() == port.port.protocol() &&
             candidate.port.published_port() == port.port.published_port() &&
             candidate.port.target_port() == port.port.target_port();
    });
    if (own == end) {
      ports.push_back(port);
      continue;
    }
    own->backends.insert(own->backends.end(), port.backends.begin(), port.backends.end());
    std::sort(own->backends.begin(), own->backends.end());
  }
}

bool same_port(const v1::PortConfig& a, const v1::PortConfig& b) {
  return a.published_port() == b.published_port() && a.protocol() == b.protocol();
}

}  // namespace

void Worker::ports_changed() {
  std::vector<const v1::LocalTask*> routable;
  for (const auto& [id, entry] : entries_) {
    if (entry->machine.routable()) routable.push_back(&entry->machine.task());
  }
  ports_wanted_ = published_ports(routable);
  if (options_.mesh) add_far(routes_.ingress_ports(), ports_wanted_);
  if (ports_busy_) return;
  if (ports_known_ && same_ports(ports_wanted_, ports_set_)) return;
  ports_busy_ = true;
  ports_set_ = ports_wanted_;
  deps_.step_pool.post(
      [this, self = self_, strand = &deps_.strand, network = &deps_.network, ports = ports_set_] {
        std::vector<v1::PortConfig> conflicts;
        const Status status = network->set_published_ports(ports, &conflicts);
        strand->post([this, self, status, conflicts = std::move(conflicts)]() mutable {
          if (*self != nullptr) ports_applied(status, std::move(conflicts));
        });
      });
}

void Worker::ports_applied(const Status& status, std::vector<v1::PortConfig> conflicts) {
  ports_busy_ = false;
  ports_known_ = true;
  if (!status.ok()) {
    deps_.log->warn("published ports: {}", status.message());
    // In force as far as possible. Whoever holds the port may give it up.
    deps_.strand.cancel(ports_timer_);
    ports_timer_ = deps_.strand.after(kPortsRetry, [this] {
      ports_known_ = false;
      ports_changed();
    });
  }
  const auto refused_before = std::exchange(ports_refused_, std::move(conflicts));
  for (const v1::PortConfig& port : refused_before) {
    const bool still = std::any_of(ports_refused_.begin(), ports_refused_.end(),
                                   [&](const auto& now) { return same_port(now, port); });
    if (!still) port_freed(port);
  }
  // A copy: a refusal may end a task, and what follows from that may come back here.
  for (const v1::PortConfig& port : std::vector(ports_refused_)) port_refused(port);
  if (ports_busy_) return;  // a refusal has changed what is wanted
  if (!same_ports(ports_wanted_, ports_set_)) {
    ports_changed();
    return;
  }
  auto waiting = std::exchange(after_ports_, {});
  for (auto& next : waiting) next();
}

void Worker::port_refused(const v1::PortConfig& port) {
  // A task that cannot have its host's port has failed; one behind the mesh is reachable through
  // the other nodes and only says so.
  std::vector<Id> failed;
  for (const overlay::PublishedPort& set : ports_set_) {
    if (!same_port(set.port, port)) continue;
    const bool host = set.port.mode() == v1::PortConfig::HOST;
    for (const auto& [id, entry] : entries_) {
      const v1::Task& task = entry->machine.task().assignment().task();
      if (!entry->machine.routable()) continue;
      if (host && task.id() == set.owner) failed.push_back(id);
      if (!host && task.service_id() == set.owner) {
        run(*entry, entry->machine.note(started_without(port), now()));
      }
    }
  }
  const std::string why = fmt::format("port {} is in use on this node", port_name(port));
  for (const Id& id : failed) {
    if (Entry* entry = find(id)) run(*entry, entry->machine.unhealthy(why, now()));
  }
}

void Worker::port_freed(const v1::PortConfig& port) {
  const std::string said = started_without(port);
  for (const auto& [id, entry] : entries_) {
    if (entry->machine.task().status().message() != said) continue;
    run(*entry, entry->machine.note("started", now()));
  }
}

void Worker::after_ports(UniqueFunction<void()> next) {
  if (!ports_busy_) {
    next();
    return;
  }
  after_ports_.push_back(std::move(next));
}

}  // namespace muster::agent
