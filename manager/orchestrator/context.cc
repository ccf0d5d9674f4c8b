#include "manager/orchestrator/context.h"

#include <fmt/format.h>
#include <google/protobuf/util/message_differencer.h>

#include <algorithm>

#include "manager/store/update_status.h"

namespace muster::manager::orchestrator {
namespace {

constexpr int64_t kDefaultHistory = 5;
constexpr Duration kStopWaitMin = 60s;
constexpr Duration kDefaultGrace = 10s;
constexpr Duration kDefaultDrain = 5s;
constexpr Duration kRelease = 15s;  // no agent waits longer for the managers' word

bool equal(const google::protobuf::Message& a, const google::protobuf::Message& b) {
  return google::protobuf::util::MessageDifferencer::Equals(a, b);
}

// What a port's containers have to do with: who may come, and how, is the nodes' business.
v1::PortConfig inner_part(v1::PortConfig port) {
  if (port.mode() == v1::PortConfig::HOST) return port;
  port.clear_bind();
  port.clear_local();
  port.clear_client_address();
  port.clear_proxy_protocol();
  return port;
}

using Ports = google::protobuf::RepeatedPtrField<v1::PortConfig>;
// In whatever order.
bool equal_ports(const Ports& a, const Ports& b) {
  const auto sorted = [](const Ports& ports) {
    std::vector<std::string> out;
    for (const v1::PortConfig& port : ports) out.push_back(inner_part(port).SerializeAsString());
    std::sort(out.begin(), out.end());
    return out;
  };
  return a.size() == b.size() && sorted(a) == sorted(b);
}

}  // namespace

ServiceContext ServiceContext::load(const store::Snapshot& state, std::string_view service_id,
                                    WallTime now, const Crowded* crowded) {
  ServiceContext context;
  context.state = state;
  context.now = now;
  context.crowded_ = crowded;
  auto service = state.get<v1::Service>(service_id);
  if (service == nullptr) return context;
  context.revision = state.get<v1::Revision>(store::revision_id(service_id, service->revision()));
  if (context.revision == nullptr) return context;
  context.service = std::move(service);
  context.restart = RestartRules::of(context.revision->spec().restart());
  context.update = UpdateRules::of(*context.service);
  const auto cluster = state.cluster();
  const int64_t limit = cluster == nullptr ? kDefaultHistory : cluster->spec().task_history_limit();
  context.history = history_limit(context.restart, limit);
  context.cluster_history = limit;
  // The control API lets only good constraints in; what does not parse matches nothing there.
  if (auto parsed =
          scheduler::parse_constraints(context.revision->spec().placement().constraints())) {
    context.constraints = *std::move(parsed);
  }
  return context;
}

bool ServiceContext::same_content(uint64_t revision_number, bool* placement_differs) const {
  const auto known = differences_.find(revision_number);
  if (known != differences_.end()) {
    *placement_differs = known->second.placement;
    return known->second.same;
  }
  Difference difference;
  const auto old = state.get<v1::Revision>(store::revision_id(service->id(), revision_number));
  if (old != nullptr && equal_ports(old->ports(), revision->ports())) {
    v1::TaskSpec was = old->spec();
    v1::TaskSpec is = revision->spec();
    // Credentials are for pulling; a container that runs does not need the new ones.
    was.clear_registry_auth();
    is.clear_registry_auth();
    difference.placement = !equal(was.placement(), is.placement());
    was.clear_placement();
    is.clear_placement();
    difference.same = equal(was, is);
  }
  differences_[revision_number] = difference;
  *placement_differs = difference.placement;
  return difference.same;
}

bool ServiceContext::up_to_date(const v1::Task& task) const {
  if (task.revision() == service->revision()) return true;
  bool placement_differs = false;
  if (!same_content(task.revision(), &placement_differs)) return false;
  if (!placement_differs) return true;
  const auto node = state.get<v1::Node>(task.node_id());
  if (node == nullptr) return false;
  return !store::is_unfinished(service->update_status()) || satisfies_constraints(*node);
}

bool ServiceContext::satisfies_constraints(const v1::Node& node) const {
  if (constraints.empty()) return true;
  const auto [known, fresh] = satisfied_.try_emplace(node.id());
  if (fresh) known->second = scheduler::matches_all(constraints, scheduler::facts_of(node));
  return known->second;
}

bool ServiceContext::node_takes(const v1::Node& node) const {
  return node.status().state() == v1::NodeStatus::READY &&
         node.spec().availability() == v1::NodeSpec::ACTIVE && satisfies_constraints(node);
}

// The constraints a task's node has to satisfy for the task to stay; null: none now.
const ServiceContext::Constraints* ServiceContext::held_to(const v1::Task& task) const {
  // The node of a global service's task may not be in its set any more, where no update would come.
  if (task.revision() == service->revision() || service->spec().has_global()) return &constraints;
  const v1::UpdateStatus& status = service->update_status();
  if (store::is_updating(status)) return nullptr;  // the update's business, at the update's pace
  bool placement_differs = false;
  const bool same = same_content(task.revision(), &placement_differs);
  if (same && !store::is_paused(status)) return &constraints;
  // Nothing else is going to replace it: what it was made for holds.
  const auto [known, fresh] = older_constraints_.try_emplace(task.revision());
  if (fresh) {
    const auto old = state.get<v1::Revision>(store::revision_id(service->id(), task.revision()));
    if (old != nullptr) {
      if (auto parsed = scheduler::parse_constraints(old->spec().placement().constraints())) {
        known->second = *std::move(parsed);
      }
    }
  }
  return &known->second;
}

const std::string* ServiceContext::crowded(const v1::Task& task) const {
  if (crowded_ == nullptr) return nullptr;
  const auto at = crowded_->find(task.id());
  return at == crowded_->end() ? nullptr : &at->second;
}

std::string ServiceContext::wrong_platform_for(const v1::Task& task, const v1::Node& node) const {
  if (task.revision() != service->revision()) return {};
  return wrong_platform(revision->spec().placement(), node);
}

ServiceContext::Place ServiceContext::place(const v1::Task& task) const {
  if (task.node_id().empty()) return Place::kNone;
  const auto node = state.get<v1::Node>(task.node_id());
  if (node == nullptr || node->status().state() == v1::NodeStatus::DOWN) return Place::kLost;
  if (node->spec().availability() == v1::NodeSpec::DRAIN) return Place::kDrained;
  const Constraints* held = held_to(task);
  if (held == nullptr) return Place::kFine;
  const bool suits = held == &constraints
                         ? satisfies_constraints(*node)
                         : scheduler::matches_all(*held, scheduler::facts_of(*node));
  if (!suits) return Place::kUnsuitable;
  if (crowded(task) != nullptr || !wrong_platform_for(task, *node).empty()) return Place::kUnable;
  return Place::kFine;
}

std::string ServiceContext::why_leaves(const v1::Task& task) const {
  const auto node = state.get<v1::Node>(task.node_id());
  switch (place(task)) {
    case Place::kNone:
    case Place::kFine: return {};
    case Place::kLost:
      return node == nullptr ? "node was removed from the swarm" : "node went down";
    case Place::kDrained: return "node was drained";
    case Place::kUnsuitable: return broken_constraint(*held_to(task), *node);
    case Place::kUnable: break;
  }
  const std::string* reason = crowded(task);
  return reason != nullptr ? *reason : wrong_platform_for(task, *node);
}

bool ServiceContext::stopped(const v1::Task& task) const {
  return task.status().state() > v1::TASK_RUNNING || task.status().state() < v1::TASK_ASSIGNED ||
         place(task) == Place::kLost;
}

Duration ServiceContext::stop_wait() const {
  const v1::ContainerSpec& container = revision->spec().container();
  const Duration grace = container.has_stop_grace_period_ns()
                             ? Duration(container.stop_grace_period_ns())
                             : kDefaultGrace;
  return std::max(kStopWaitMin, kRelease + drain_timeout() + grace + 10s);
}

Duration ServiceContext::drain_timeout() const {
  const v1::EndpointSpec& endpoint = service->spec().endpoint();
  return endpoint.has_drain_timeout_ns() ? Duration(endpoint.drain_timeout_ns()) : kDefaultDrain;
}

// Whether nodes other than the task's own may lead flows to it.
bool ServiceContext::routed_by_others(const v1::Task& task) const {
  return std::any_of(task.networks().begin(), task.networks().end(), [this](const auto& in) {
    const auto network = state.get<v1::Network>(in.network_id());
    return network != nullptr && network->spec().driver() == "overlay";
  });
}

v1::Task ServiceContext::told_to_stop(const v1::Task& task, v1::TaskState desired,
                                      const std::string& why) const {
  v1::Task changed = with_desired(task, desired, now, why);
  if (place(task) == Place::kLost) {
    changed.set_endpoint_state(v1::ENDPOINT_ABSENT);
    changed.clear_drain();
    return changed;
  }
  // One that is being stopped already, perhaps since it is ill, goes on as it began.
  const bool leaves_now = task.endpoint_state() <= v1::ENDPOINT_READY && !task.has_drain();
  const v1::TaskState is = task.status().state();
  const bool has_addresses =
      std::any_of(task.networks().begin(), task.networks().end(),
                  [](const auto& attachment) { return attachment.addresses_size() != 0; });
  if (!leaves_now || !has_addresses || is < v1::TASK_ASSIGNED || is > v1::TASK_RUNNING) {
    return changed;
  }
  // Also where it is not known to be ready: it may be by now, and its own node leads flows to it.
  changed.mutable_drain()->set_since_ns(now.unix_ns);
  changed.mutable_drain()->set_timeout_ns(drain_timeout().count());
  if (task.endpoint_state() == v1::ENDPOINT_READY && routed_by_others(task)) {
    changed.set_endpoint_state(v1::ENDPOINT_DRAINING);
  }
  return changed;
}

v1::Task ServiceContext::new_task(uint64_t slot, const std::string& node_id,
                                  v1::TaskState desired) const {
  v1::Task task;
  task.set_service_id(service->id());
  const std::string& name = service->spec().annotations().name();
  task.set_name(node_id.empty() ? fmt::format("{}.{}", name, slot)
                                : fmt::format("{}.{}", name, node_id));
  task.set_slot(slot);
  task.set_node_id(node_id);
  task.set_revision(service->revision());
  task.set_desired_state(desired);
  task.mutable_status()->set_state(v1::TASK_NEW);
  task.mutable_status()->set_timestamp_ns(now.unix_ns);
  task.mutable_status()->set_message("created");
  // As allocated, where the allocator has already been; it completes the task otherwise.
  const bool allocated = equal_ports(service->endpoint().spec().ports(), revision->ports());
  *task.mutable_ports() = allocated ? service->endpoint().ports() : revision->ports();
  return task;
}

v1::Task with_desired(const v1::Task& task, v1::TaskState desired, WallTime now,
                      const std::string& why) {
  v1::Task changed = task;
  changed.set_desired_state(std::max(task.desired_state(), desired));
  if (desired >= v1::TASK_SHUTDOWN && task.status().state() < v1::TASK_ASSIGNED) {
    changed.mutable_status()->set_state(v1::TASK_SHUTDOWN);
    changed.mutable_status()->set_timestamp_ns(now.unix_ns);
    changed.mutable_status()->set_message("shut down before it was started");
    changed.mutable_status()->clear_error();
  }
  if (desired >= v1::TASK_SHUTDOWN && task.endpoint_state() == v1::ENDPOINT_READY) {
    changed.set_endpoint_state(v1::ENDPOINT_RELEASED);
  }
  if (!why.empty()) changed.mutable_status()->set_error(why);
  return changed;
}

}  // namespace muster::manager::orchestrator
