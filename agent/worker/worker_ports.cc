// The worker's published ports: what its tasks want against what the kernel was told.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "agent/routes/led_task.h"
#include "agent/worker/container_plan.h"
#include "agent/worker/mutant.h"
#include "agent/worker/worker.h"
#include "agent/worker/worker_entry.h"

namespace muster::agent {
namespace {

// How often a port is tried again that another program of the host holds.
constexpr Duration kPortsRetry = 10s;
// When the kernel did not take what it was told: at first after this, later after as long again as
// it has failed by then, every kPortsRetry in the end.
constexpr Duration kPortsRetryMin = 100ms;
// How long a task that stops, or `leave`, waits for ports that the kernel does not take; managers
// wait no longer, either.
constexpr Duration kPortsPatience = 2s;
// How netd ends what it says of a port that another program has (relay_sockets.cc).
constexpr std::string_view kInUse = "is in use on this node";

// In the words of tell_limitations().
std::string taken(const v1::PortConfig& port, bool at_loopback) {
  return fmt::format(
      "port {} is taken by another program of this host{} (`ss -lntup sport = :{}` tells which)",
      port_name(port), at_loopback ? " at ::1, and answers everywhere else" : "",
      port.published_port());
}

std::string started_without(const v1::PortConfig& port, bool at_loopback) {
  return "started; " + taken(port, at_loopback);
}

bool same_ports(const std::vector<overlay::PublishedPort>& a,
                const std::vector<overlay::PublishedPort>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const overlay::PublishedPort& x, const overlay::PublishedPort& y) {
                      return x.owner == y.owner && x.backends == y.backends &&
                             x.containers == y.containers && x.balancing == y.balancing &&
                             x.affinity_ns == y.affinity_ns && x.weights == y.weights &&
                             x.port.SerializeAsString() == y.port.SerializeAsString();
                    });
}

bool same_relays(const std::vector<PortRelay>& a, const std::vector<PortRelay>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const PortRelay& x, const PortRelay& y) {
                      return x.relay.SerializeAsString() == y.relay.SerializeAsString();
                    });
}

std::vector<v1::NetdRelay> records_of(const std::vector<PortRelay>& relays) {
  std::vector<v1::NetdRelay> out;
  for (const PortRelay& relay : relays) out.push_back(relay.relay);
  return out;
}

// Those whose port was another's before are not yet there: the kernel gives it up first.
std::vector<PortRelay> still_wanted(const std::vector<PortRelay>& before,
                                    const std::vector<PortRelay>& now) {
  std::vector<PortRelay> out;
  for (const PortRelay& relay : now) {
    const bool known = std::any_of(before.begin(), before.end(), [&](const PortRelay& other) {
      return other.relay.id() == relay.relay.id();
    });
    if (known) out.push_back(relay);
  }
  return out;
}

bool same_port(const v1::PortConfig& a, const v1::PortConfig& b) {
  return a.published_port() == b.published_port() && a.protocol() == b.protocol() &&
         a.bind() == b.bind();
}

bool contains(const std::vector<v1::PortConfig>& ports, const v1::PortConfig& port) {
  return std::any_of(ports.begin(), ports.end(),
                     [&](const v1::PortConfig& other) { return same_port(other, port); });
}

// Ports that are taken lead nowhere: that, too, is in force.
bool in_force(const Status& status) {
  return status.ok() || status.code() == StatusCode::kAlreadyExists;
}

}  // namespace

void Worker::ports_changed() {
  std::vector<const v1::LocalTask*> on_host;
  std::vector<const v1::LocalTask*> in_mesh;
  for (const auto& [id, entry] : entries_) {
    const v1::LocalTask& task = entry->machine.task();
    if (entry->machine.routable()) on_host.push_back(&task);
    v1::EndpointState led = led_as(own_endpoint(task), routes_.ingress_state(id));
    if (fault(WorkerMutant::kPortsClosedAtOnce)) led = task.endpoint_state();
    if (led == v1::ENDPOINT_READY) in_mesh.push_back(&task);
  }
  auto ports = published_ports(on_host, in_mesh);
  if (options_.mesh) ports = merge_ports(std::move(ports), routes_.ingress_ports());
  PortPlan plan = plan_ports(ports, masquerade_);
  ports_all_ = std::move(ports);
  ports_wanted_ = std::move(plan.kernel);
  relays_wanted_ = std::move(plan.relays);
  if (deps_.names == nullptr) relays_wanted_.clear();
  if (ports_busy_) return;
  if (ports_known_ && !ports_failing_since_ && same_ports(ports_wanted_, ports_set_) &&
      same_relays(relays_wanted_, relays_set_)) {
    return;
  }
  ports_busy_ = true;
  ports_set_ = ports_wanted_;
  relays_set_ = relays_wanted_;
  // netd gives up what the kernel is to have, and gets what the kernel has given up. Of a former
  // process nothing is known: its relays go on, and the kernel holds no port yet.
  auto kept = ports_known_ ? still_wanted(relays_told_, relays_set_) : relays_set_;
  if (ports_known_ && kept.size() == relays_told_.size()) return set_ports();
  relays_told_ = std::move(kept);
  tell_relays(relays_told_, [this] { set_ports(); });
}

// What was told is in force, or netd does not answer, when `next` runs.
void Worker::tell_relays(const std::vector<PortRelay>& relays, UniqueFunction<void()> next) {
  if (deps_.names == nullptr) return next();
  const auto failed = deps_.names->failed_relays();
  deps_.names->set_relays(records_of(relays), !failed.empty());
  deps_.names->after_applied(deps_.strand, [self = self_, next = std::move(next)]() mutable {
    if (*self != nullptr) next();
  });
}

void Worker::set_ports() {
  deps_.step_pool.post(
      [this, self = self_, strand = &deps_.strand, network = &deps_.network, ports = ports_set_] {
        std::vector<v1::PortConfig> conflicts;
        const Status status = network->set_published_ports(ports, &conflicts);
        strand->post([this, self, status, conflicts = std::move(conflicts)]() mutable {
          if (*self == nullptr) return;
          // netd is to get what the kernel gives up: not yet.
          if (!in_force(status)) return ports_not_applied(status);
          if (same_relays(relays_set_, relays_told_) && failed_relays().empty()) {
            return ports_applied(status, std::move(conflicts));
          }
          relays_told_ = relays_set_;
          tell_relays(relays_set_, [this, status, conflicts = std::move(conflicts)]() mutable {
            ports_applied(status, std::move(conflicts));
          });
        });
      });
}

// Which of those wanted netd does not serve everywhere, and why.
std::vector<std::pair<PortRelay, std::string>> Worker::failed_relays() const {
  std::vector<std::pair<PortRelay, std::string>> out;
  if (deps_.names == nullptr || relays_set_.empty()) return out;
  const auto failed = deps_.names->failed_relays();
  for (const PortRelay& relay : relays_set_) {
    const auto why = failed.find(relay.relay.id());
    if (why != failed.end()) out.emplace_back(relay, why->second);
  }
  return out;
}

void Worker::ports_applied(const Status& status, std::vector<v1::PortConfig> conflicts) {
  ports_busy_ = false;
  ports_known_ = true;
  ports_failing_since_.reset();
  ports_said_.clear();
  const auto failed = failed_relays();
  std::vector<v1::PortConfig> at_loopback;
  for (const auto& [relay, why] : failed) {
    if (!why.ends_with(kInUse)) {
      ports_said_ = why;
    } else if (!contains(conflicts, relay.port)) {
      conflicts.push_back(relay.port);
      if (relay.loopback) at_loopback.push_back(relay.port);
    }
  }
  if (!status.ok() || !failed.empty()) {
    deps_.log->warn("published ports: {}", !status.ok() ? status.message() : failed[0].second);
    // In force as far as possible. Whoever holds the port may give it up.
    deps_.strand.cancel(ports_timer_);
    ports_timer_ = deps_.strand.after(kPortsRetry, [this] {
      ports_known_ = false;
      ports_changed();
    });
  }
  const auto refused_before = std::exchange(ports_refused_, std::move(conflicts));
  for (const v1::PortConfig& port : refused_before) {
    if (!contains(ports_refused_, port)) port_freed(port);
  }
  ports_at_loopback_ = at_loopback;
  // A copy: a refusal may end a task, and what follows from that may come back here.
  for (const v1::PortConfig& port : std::vector(ports_refused_)) {
    port_refused(port, contains(at_loopback, port));
  }
  tell_limitations();
  if (ports_busy_) return;  // a refusal has changed what is wanted
  if (!same_ports(ports_wanted_, ports_set_) || !same_relays(relays_wanted_, relays_set_)) {
    ports_changed();
    return;
  }
  tell_carried_out();
  release_after_ports();
}

// The kernel may lead as before. What follows from the new ports is not acknowledged until it has
// them; what stops here goes on without that in the end, since every wait has one.
void Worker::ports_not_applied(const Status& status) {
  ports_busy_ = false;
  ports_known_ = true;
  const TimePoint at = deps_.strand.clock().now();
  if (!ports_failing_since_) ports_failing_since_ = at;
  if (std::exchange(ports_said_, status.message()) != status.message()) {
    deps_.log->error("published ports: {}", status.message());
  }
  const Duration failing = at - *ports_failing_since_;
  deps_.strand.cancel(ports_timer_);
  const Duration longest = failing < kPortsPatience ? kPortsPatience - failing : kPortsRetry;
  ports_timer_ = deps_.strand.after(std::max(kPortsRetryMin, std::min(failing, longest)),
                                    [this] { ports_changed(); });
  tell_limitations();
  if (failing >= kPortsPatience) release_after_ports();
}

std::vector<v1::PortConfig> Worker::refused_ports() const {
  std::vector<v1::PortConfig> out = ports_refused_;
  std::erase_if(out, [&](const auto& port) { return contains(ports_at_loopback_, port); });
  return out;
}

void Worker::release_after_ports() {
  auto waiting = std::exchange(after_ports_, {});
  for (auto& next : waiting) next();
}

void Worker::port_refused(const v1::PortConfig& port, bool at_loopback) {
  // A task that cannot have its host's port has failed; one behind the mesh is reachable through
  // the other nodes and only says so, as one does that is not reached at ::1 alone.
  std::vector<Id> failed;
  for (const overlay::PublishedPort& set : ports_all_) {
    if (!same_port(set.port, port)) continue;
    const bool host = set.port.mode() == v1::PortConfig::HOST;
    for (const auto& [id, entry] : entries_) {
      const v1::Task& task = entry->machine.task().assignment().task();
      if (!entry->machine.routable()) continue;
      if ((host ? task.id() : task.service_id()) != set.owner) continue;
      if (host && !at_loopback) {
        failed.push_back(id);
      } else {
        run(*entry, entry->machine.note(started_without(port, at_loopback), now()));
      }
    }
  }
  const std::string why = taken(port, false);
  for (const Id& id : failed) {
    if (Entry* entry = find(id)) run(*entry, entry->machine.unhealthy(why, now()));
  }
}

void Worker::port_freed(const v1::PortConfig& port) {
  for (const auto& [id, entry] : entries_) {
    const std::string& said = entry->machine.task().status().message();
    if (said != started_without(port, false) && said != started_without(port, true)) continue;
    run(*entry, entry->machine.note("started", now()));
  }
}

void Worker::after_ports(UniqueFunction<void()> next) {
  const bool awaited =
      ports_failing_since_ && deps_.strand.clock().now() - *ports_failing_since_ < kPortsPatience;
  if (!ports_busy_ && !awaited) {
    next();
    return;
  }
  after_ports_.push_back(std::move(next));
}

}  // namespace muster::agent
