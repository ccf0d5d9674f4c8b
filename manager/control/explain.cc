#include "manager/control/explain.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "manager/orchestrator/context.h"
#include "manager/orchestrator/slot_plan.h"
#include "manager/store/update_status.h"
#include "overlay/ipam/mtu.h"
#include "overlay/ipam/overlay_limits.h"
#include "scheduler/explain.h"

namespace muster::manager::control {
namespace {

using orchestrator::ServiceContext;
using TaskPtr = store::Ptr<v1::Task>;

std::string to_the_second(WallTime t) {
  const std::string text = format_rfc3339(t);
  return text.substr(0, text.find('.')) + "Z";
}

std::string short_id(const std::string& id) {
  return id.substr(0, 12);
}

std::string hostname_of(const store::Snapshot& state, const std::string& node_id) {
  const auto node = state.get<v1::Node>(node_id);
  if (node == nullptr || node->description().hostname().empty()) return node_id;
  return node->description().hostname();
}

bool has_live_states(const v1::Task& task) {
  return task.desired_state() <= v1::TASK_COMPLETE;
}

std::string plural(size_t number, const char* what) {
  return fmt::format("{} {}{}", number, what, number == 1 ? "" : "s");
}

void add(std::string& text, const std::string& part) {
  if (part.empty()) return;
  if (!text.empty()) text += "; ";
  text += part;
}

// ---------------------------------------------------------------- nodes

// Which services hold the host-mode ports that the service asks for on the node.
std::string port_holders(const store::Snapshot& state, const v1::Revision& revision,
                         const std::string& node_id) {
  std::string text;
  for (const v1::PortConfig& port : revision.ports()) {
    if (port.mode() != v1::PortConfig::HOST || port.published_port() == 0) continue;
    std::set<std::string> holders;
    state.tasks_of_node(node_id, [&](const TaskPtr& task) {
      const v1::TaskState observed = task->status().state();
      if (observed < v1::TASK_ASSIGNED || observed > v1::TASK_RUNNING) return true;
      for (const v1::PortConfig& other : task->ports()) {
        if (other.mode() == v1::PortConfig::HOST && other.protocol() == port.protocol() &&
            other.published_port() == port.published_port()) {
          holders.insert(task->name().substr(0, task->name().rfind('.')));
        }
      }
      return true;
    });
    if (holders.empty()) continue;
    std::string protocol = v1::PortConfig::Protocol_Name(port.protocol());
    std::transform(protocol.begin(), protocol.end(), protocol.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    add(text, fmt::format("port {}/{} is taken by service {}", port.published_port(), protocol,
                          fmt::join(holders, ", ")));
  }
  return text;
}

std::string not_ready(const v1::Node& node) {
  const v1::NodeStatus& status = node.status();
  std::string text;
  if (status.state() != v1::NodeStatus::READY) {
    std::string state = v1::NodeStatus::State_Name(status.state());
    std::transform(state.begin(), state.end(), state.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    text = "node is " + state;
    if (!status.message().empty()) text += ": " + status.message();
  } else {
    text = node.spec().availability() == v1::NodeSpec::DRAIN ? "node is drained" : "node is paused";
  }
  return fmt::format("{} (as it is since {})", text, to_the_second({node.meta().updated_at_ns()}));
}

// The cluster as the scheduler would see it. The tasks of a global service hold what its next one
// would ask for: they are left out, so that the question is whether the node takes its task at all.
scheduler::ClusterState cluster_state(const store::Snapshot& state, const v1::Service& service) {
  scheduler::ClusterState cluster;
  state.each<v1::Node>([&](const auto& node) {
    cluster.put_node(*node);
    return true;
  });
  state.each<v1::Network>([&](const auto& network) {
    const v1::NetworkSpec& spec = network->spec();
    cluster.set_network(network->id(), {overlay::is_overlay_driver(spec),
                                        overlay::is_encrypted(spec), spec.ingress()});
    return true;
  });
  state.each<v1::Revision>([&](const auto& revision) {
    cluster.put_revision(*revision);
    return true;
  });
  const bool one_each = service.spec().has_global() || service.spec().has_global_job();
  state.each<v1::Task>([&](const TaskPtr& task) {
    if (!one_each || task->service_id() != service.id()) cluster.put_task(task);
    return true;
  });
  return cluster;
}

void explain_nodes_in(const ServiceContext& context, v1::ExplainServiceResponse& response) {
  const store::Snapshot& state = context.state;
  const v1::Service& service = *context.service;
  std::map<std::string, uint64_t> tasks;
  state.tasks_of_service(service.id(), [&](const TaskPtr& task) {
    const v1::TaskState observed = task->status().state();
    const bool active = observed >= v1::TASK_ASSIGNED && observed <= v1::TASK_RUNNING;
    if (active && has_live_states(*task)) ++tasks[task->node_id()];
    return true;
  });
  scheduler::ClusterState cluster = cluster_state(state, service);
  for (auto& verdict : scheduler::explain_nodes(cluster, service.id(), service.revision())) {
    const std::string& id = cluster.nodes()[verdict.node].facts.id;
    v1::NodeExplanation& out = *response.add_nodes();
    out.set_node_id(id);
    out.set_hostname(hostname_of(state, id));
    out.set_fits(verdict.fits);
    out.set_filter(verdict.filter);
    out.set_tasks(tasks[id]);
    if (verdict.filter == "ready") {
      out.set_reason(not_ready(*state.get<v1::Node>(id)));
    } else if (verdict.filter == "host-port") {
      const std::string holders = port_holders(state, *context.revision, id);
      out.set_reason(holders.empty() ? verdict.why : holders);
    } else {
      out.set_reason(verdict.why);
    }
  }
  std::stable_sort(response.mutable_nodes()->begin(), response.mutable_nodes()->end(),
                   [](const auto& a, const auto& b) { return a.hostname() < b.hostname(); });
}

// ---------------------------------------------------------------- slots

class SlotExplainer {
 public:
  SlotExplainer(const ServiceContext& context, const v1::ExplainServiceResponse& response)
      : context_(context), global_(one_each(*context.service)) {
    for (const auto& node : response.nodes()) {
      nodes_[node.node_id()] = &node;
      if (!node.fits() && node.tasks() == 0) continue;
      ++possible_;
      least_ = std::min<uint64_t>(least_, node.tasks());
      most_ = std::max<uint64_t>(most_, node.tasks());
    }
    count_branches();
  }
  static bool one_each(const v1::Service& service) {
    return service.spec().has_global() || service.spec().has_global_job();
  }

  void explain(uint64_t number, const std::string& node_id, std::vector<TaskPtr> tasks,
               v1::ExplainServiceResponse& response) const;

 private:
  std::string why(const TaskPtr& task, const std::vector<TaskPtr>& tasks) const;
  std::string why_waiting(const v1::Task& task, const std::vector<TaskPtr>& tasks) const;
  std::string why_here(const v1::Task& task) const;
  void count_branches();
  std::string spread(const v1::Task& task) const;
  std::string history(const v1::Task& task, const std::vector<TaskPtr>& tasks) const;
  std::string pair(const TaskPtr& task, const std::vector<TaskPtr>& tasks) const;
  std::string why_empty(const std::vector<TaskPtr>& tasks) const;
  std::string named(const v1::Task& task) const {
    return task.node_id().empty() ? short_id(task.id())
                                  : fmt::format("{} on {}", short_id(task.id()),
                                                hostname_of(context_.state, task.node_id()));
  }

  const ServiceContext& context_;
  bool global_;
  std::map<std::string, const v1::NodeExplanation*> nodes_;
  // Of nodes that fit or have a task of the service: their number, and how many tasks they have.
  size_t possible_ = 0;
  uint64_t least_ = UINT64_MAX;
  uint64_t most_ = 0;
  // Active tasks by branch, one map a spread preference.
  struct Level {
    std::string descriptor;
    std::map<std::string, size_t> tasks;
  };
  std::vector<Level> levels_;
  size_t active_ = 0;
};

void SlotExplainer::count_branches() {
  for (const auto& preference : context_.revision->spec().placement().preferences()) {
    if (scheduler::is_spread_descriptor(preference.spread_descriptor())) {
      levels_.push_back({preference.spread_descriptor(), {}});
    }
  }
  for (const auto& [id, explained] : nodes_) {
    active_ += explained->tasks();
    const auto node = levels_.empty() ? nullptr : context_.state.get<v1::Node>(id);
    if (node == nullptr) continue;
    const scheduler::NodeFacts facts = scheduler::facts_of(*node);
    for (Level& level : levels_) {
      level.tasks[std::string(scheduler::spread_value(level.descriptor, facts))] +=
          explained->tasks();
    }
  }
}

// Where the tasks of the service are, level by level of the spread preferences.
std::string SlotExplainer::spread(const v1::Task& task) const {
  std::string text;
  const auto home = context_.state.get<v1::Node>(task.node_id());
  if (home == nullptr) return text;
  const scheduler::NodeFacts facts = scheduler::facts_of(*home);
  for (const Level& level : levels_) {
    const std::string value(scheduler::spread_value(level.descriptor, facts));
    const auto at = level.tasks.find(value);
    add(text, fmt::format("{} of {} where {} is \"{}\"", at == level.tasks.end() ? 0 : at->second,
                          plural(active_, "task"), level.descriptor, value));
  }
  return text;
}

std::string SlotExplainer::why_here(const v1::Task& task) const {
  std::string text;
  if (global_) {
    text = "one task on every node that fits";
  } else {
    const auto home = nodes_.find(task.node_id());
    const uint64_t here = home == nodes_.end() ? 0 : home->second->tasks();
    if (possible_ <= 1) {
      text = "the only node that fits";
    } else {
      text = fmt::format(
          "{} of the service here, {} on the {} nodes that take them", plural(here, "task"),
          least_ == most_ ? fmt::format("{} each", least_) : fmt::format("{} to {}", least_, most_),
          possible_);
    }
    add(text, spread(task));
  }
  std::string satisfied;
  for (const auto& constraint : context_.constraints) {
    satisfied += fmt::format("{}{}", satisfied.empty() ? "satisfies " : ", ", constraint.words());
  }
  if (context_.place(task) == ServiceContext::Place::kFine) add(text, satisfied);
  for (const auto& generic : task.assigned_generic()) {
    add(text, generic.names_size() > 0
                  ? fmt::format("was given {} {}", generic.kind(),
                                fmt::join(generic.names().begin(), generic.names().end(), ","))
                  : fmt::format("was given {} of {}", generic.count(), generic.kind()));
  }
  return text;
}

// What the slot had before, where that is why there is a new task.
std::string SlotExplainer::history(const v1::Task& task, const std::vector<TaskPtr>& tasks) const {
  TaskPtr before;  // tasks: newest first
  for (const TaskPtr& other : tasks) {
    if (before == nullptr && other->meta().created_at_ns() < task.meta().created_at_ns() &&
        other->desired_state() == v1::TASK_SHUTDOWN) {
      before = other;
    }
  }
  if (before == nullptr || before->status().error().empty()) return {};
  const bool ended = orchestrator::ended_by_itself(before->status().state());
  return fmt::format("{} {}: {}", ended ? "restarted after" : "moved from", named(*before),
                     before->status().error());
}

// The other one of a start-first step, or what keeps the task from leaving.
std::string SlotExplainer::pair(const TaskPtr& task, const std::vector<TaskPtr>& tasks) const {
  std::string text;
  const std::string leaves =
      task->status().state() <= v1::TASK_RUNNING ? context_.why_leaves(*task) : std::string();
  TaskPtr other;
  for (const TaskPtr& t : tasks) {
    if (t != task && has_live_states(*t)) other = t;
  }
  if (!leaves.empty()) {
    add(text, fmt::format("has to leave: {}", leaves));
    if (other == nullptr) {
      const uint64_t most = context_.update.parallelism;
      add(text, most == 0 ? "is about to" : fmt::format("waits for its turn, {} at a time", most));
    }
  }
  if (other != nullptr) {
    const bool replaced = other->meta().created_at_ns() > task->meta().created_at_ns();
    add(text, fmt::format("start-first: {} {}", replaced ? "stays until replaced by" : "replaces",
                          named(*other)));
  } else if (!context_.up_to_date(*task)) {
    const v1::UpdateStatus& update = context_.service->update_status();
    add(text, store::is_paused(update) ? "of an older revision: the update is paused"
                                       : "of an older revision: the update has not come to it");
  }
  return text;
}

std::string SlotExplainer::why_waiting(const v1::Task& task,
                                       const std::vector<TaskPtr>& tasks) const {
  const v1::TaskStatus& status = task.status();
  if (!status.error().empty()) return status.error();
  if (task.desired_state() == v1::TASK_READY) {
    const WallTime start{task.start_after_ns()};
    if (orchestrator::waits_for_start(context_.restart, task, context_.now))
      return "waits for the restart delay until " + to_the_second(start);
    for (const TaskPtr& other : tasks) {
      if (other->id() != task.id() && !has_live_states(*other) && !context_.stopped(*other)) {
        return fmt::format("waits for {} to stop", named(*other));
      }
    }
  }
  if (status.state() < v1::TASK_PENDING) {
    return context_.service->allocation_error().empty() ? "waits for networks and ports"
                                                        : context_.service->allocation_error();
  }
  if (status.state() == v1::TASK_PENDING) return "waits for the scheduler";
  std::string state = v1::TaskState_Name(status.state()).substr(sizeof("TASK_") - 1);
  std::transform(state.begin(), state.end(), state.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return status.message().empty() || status.message() == state
             ? "is " + state
             : fmt::format("is {}: {}", state, status.message());
}

std::string SlotExplainer::why(const TaskPtr& task, const std::vector<TaskPtr>& tasks) const {
  std::string text;
  if (task->status().state() == v1::TASK_COMPLETE) return "is complete";
  if (task->status().state() < v1::TASK_RUNNING) add(text, why_waiting(*task, tasks));
  add(text, pair(task, tasks));
  if (task->status().state() >= v1::TASK_ASSIGNED) add(text, why_here(*task));
  add(text, history(*task, tasks));
  return text;
}

std::string SlotExplainer::why_empty(const std::vector<TaskPtr>& tasks) const {
  if (tasks.empty()) return "is about to be created";
  const v1::Task& last = *tasks.front();
  std::vector<const v1::Task*> raw;
  for (const TaskPtr& task : tasks) raw.push_back(task.get());
  const std::string end =
      last.status().error().empty() ? last.status().message() : last.status().error();
  if (wants_restart(context_.restart, last, raw)) return "is about to be created; " + end;
  const char* condition = context_.restart.condition == v1::RestartPolicy::NONE ? "none"
                          : context_.restart.condition == v1::RestartPolicy::ON_FAILURE
                              ? "on-failure"
                              : "any";
  return fmt::format(
      "not started again: {} (restart condition {}{})", end.empty() ? "its task has ended" : end,
      condition,
      context_.restart.max_attempts == 0
          ? ""
          : fmt::format(", {} at most", plural(context_.restart.max_attempts, "attempt")));
}

void SlotExplainer::explain(uint64_t number, const std::string& node_id, std::vector<TaskPtr> tasks,
                            v1::ExplainServiceResponse& response) const {
  std::sort(tasks.begin(), tasks.end(), [](const TaskPtr& a, const TaskPtr& b) {
    if (a->meta().created_at_ns() != b->meta().created_at_ns()) {
      return a->meta().created_at_ns() > b->meta().created_at_ns();
    }
    return a->id() > b->id();
  });
  bool any = false;
  for (const TaskPtr& task : tasks) {
    if (!has_live_states(*task)) continue;
    any = true;
    v1::SlotExplanation& slot = *response.add_slots();
    slot.set_slot(number);
    slot.set_task_id(task->id());
    slot.set_node_id(task->node_id());
    slot.set_hostname(task->node_id().empty() ? "" : hostname_of(context_.state, task->node_id()));
    slot.set_state(task->status().state());
    slot.set_desired_state(task->desired_state());
    slot.set_reason(why(task, tasks));
  }
  if (any) return;
  v1::SlotExplanation& slot = *response.add_slots();
  slot.set_slot(number);
  slot.set_node_id(node_id);
  slot.set_hostname(node_id.empty() ? "" : hostname_of(context_.state, node_id));
  slot.set_reason(why_empty(tasks));
}

}  // namespace

v1::ExplainServiceResponse explain_service(const store::Snapshot& state, const v1::Service& service,
                                           WallTime now) {
  v1::ExplainServiceResponse response;
  *response.mutable_service() = service;
  orchestrator::Crowded crowded;
  std::map<std::pair<uint64_t, std::string>, std::vector<TaskPtr>> slots;
  std::set<std::string> homes;
  const bool one_each = SlotExplainer::one_each(service);
  state.tasks_of_service(service.id(), [&](const TaskPtr& task) {
    if (!task->node_id().empty()) homes.insert(task->node_id());
    if (task->desired_state() == v1::TASK_REMOVE) return true;
    slots[{task->slot(), one_each ? task->node_id() : std::string()}].push_back(task);
    return true;
  });
  for (const std::string& id : homes) {
    if (const auto node = state.get<v1::Node>(id))
      crowded.merge(orchestrator::crowded_out(state, *node));
  }
  const ServiceContext context = ServiceContext::load(state, service.id(), now, &crowded);
  if (context.service == nullptr) return response;
  explain_nodes_in(context, response);
  if (service.spec().has_replicated()) {
    for (uint64_t slot = 1; slot <= service.spec().replicated().replicas(); ++slot)
      slots[{slot, ""}];
  } else if (one_each) {
    for (const auto& node : response.nodes()) {
      if (node.fits()) slots[{0, node.node_id()}];
    }
  }
  const SlotExplainer explainer(context, response);
  for (auto& [key, tasks] : slots) {
    const bool live = std::any_of(tasks.begin(), tasks.end(),
                                  [](const TaskPtr& task) { return has_live_states(*task); });
    // What a node of a global service once ran is not a slot of it any more.
    const bool wanted =
        live || (one_each ? context.state.get<v1::Node>(key.second) != nullptr &&
                                context.node_takes(*context.state.get<v1::Node>(key.second))
                          : true);
    const bool surplus = !live && service.spec().has_replicated() &&
                         key.first > service.spec().replicated().replicas();
    if (wanted && !surplus) explainer.explain(key.first, key.second, std::move(tasks), response);
  }
  return response;
}

}  // namespace muster::manager::control
