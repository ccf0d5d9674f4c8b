#include "tests/sim/sim_rules.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>
#include <variant>

#include "manager/dispatcher/network_feed.h"
#include "manager/orchestrator/node_fit.h"
#include "manager/orchestrator/restart_policy.h"
#include "manager/store/job_status.h"
#include "manager/store/update_status.h"

namespace muster::sim {

namespace store = manager::store;
using manager::orchestrator::RestartRules;
using manager::store::is_updating;
using TaskPtr = store::Ptr<v1::Task>;

namespace {

constexpr int64_t kHistoryMax = 3;  // the limit of 2, or the attempts of a policy and one more
constexpr Duration kStopWait = 60s;

// A slot is a number, or a node of a global service; either is in the task's name.
std::string slot_of(const v1::Task& task) {
  return task.name().substr(task.name().find('.') + 1);
}

// The service may be gone already; its name is in the task's, too.
std::string name_of(const v1::Task& task) {
  return task.name().substr(0, task.name().find('.'));
}

std::string details(const SimHost::Container& c) {
  return fmt::format("{} (desired {}, state {}, revision {}{})", c.task.id(),
                     v1::TaskState_Name(c.task.desired_state()), v1::TaskState_Name(c.state),
                     c.task.revision(), c.removed ? ", removed" : "");
}

// Whether both are the same as far as the client's changes go.
bool same_request(const v1::ServiceSpec& a, const v1::ServiceSpec& b) {
  return a.task().container().image() == b.task().container().image() &&
         a.replicated().replicas() == b.replicated().replicas() &&
         a.replicated_job().total_completions() == b.replicated_job().total_completions() &&
         a.task().force_update() == b.task().force_update();
}

// Managers of a simulated cluster take no tasks.
bool is_host(const v1::Node& node) {
  return node.id().starts_with('n');
}

std::vector<TaskPtr> slot_tasks(const store::Snapshot& state, const v1::Task& task) {
  std::vector<TaskPtr> out;
  state.tasks_of_slot(task.service_id(), task.slot(), [&](const TaskPtr& other) {
    out.push_back(other);
    return true;
  });
  return out;
}

// The tasks of a slot for whoever looks into a failed seed.
std::string describe(const std::vector<TaskPtr>& tasks) {
  std::string out;
  for (const TaskPtr& task : tasks) {
    out += fmt::format(
        "\n  {} rev {} {} wanted {} made {} reached {} by {} at {} node {}: {} {}",
        task->id().substr(0, 6), task->revision(), v1::TaskState_Name(task->status().state()),
        v1::TaskState_Name(task->desired_state()), task->meta().created_at_ns() / 1'000'000,
        task->status().timestamp_ns() / 1'000'000, task->status().applied_by(),
        task->status().applied_at_ns() / 1'000'000, task->node_id(), task->status().message(),
        task->status().error());
  }
  return out;
}

}  // namespace

// ---------------------------------------------------------------- at every commit

void SimRules::on_commit(const store::CommitEvent& event) {
  pace_.on_commit(event);
  placement_.on_commit(event);
  note_leaving(event);
  note_keys(event);
  for (const store::AnyChange& any : *event.changes) {
    if (const auto* node = std::get_if<store::Change<v1::Node>>(&any)) {
      for (const auto& form : {node->before, node->after}) {
        if (form != nullptr && form->status().state() == v1::NodeStatus::DOWN) {
          last_down_ns_[form->id()] = event.time.unix_ns;
        }
      }
      continue;
    }
    if (const auto* service = std::get_if<store::Change<v1::Service>>(&any)) {
      const auto& [before, after] = *service;
      if (before != nullptr && after != nullptr && before->update_status().reason().empty() &&
          !after->update_status().reason().empty()) {
        rolled_back_to_[after->spec().annotations().name()] = after->spec();
      }
      continue;
    }
    const auto* change = std::get_if<store::Change<v1::Task>>(&any);
    if (change == nullptr || change->after == nullptr) continue;
    const v1::Task& after = *change->after;
    if (change->before != nullptr) {
      const v1::Task& before = *change->before;
      if (after.status().state() < before.status().state()) {
        broken_(fmt::format("the state of task {} went back", after.id()));
      }
      if (before.status().state() > v1::TASK_RUNNING &&
          after.status().state() != before.status().state()) {
        broken_(fmt::format("task {} ended twice", after.id()));
      }
      if (after.desired_state() < before.desired_state()) {
        broken_(fmt::format("the desired state of task {} went back", after.id()));
      }
    }
    if (after.job_iteration() != 0) {
      // A manager that starts reads tasks of any state.
      const bool fresh = change->before == nullptr && after.status().state() == v1::TASK_NEW;
      check_job(event.after, after, fresh);
    } else {
      check_slot(event.after, after);
    }
  }
  before_ = event.after;
}

void SimRules::check_slot(const store::Snapshot& state, const v1::Task& task) {
  const bool pairs = client_.ever_start_first(name_of(task));
  int all = 0;
  state.tasks_of_slot(task.service_id(), task.slot(), [&](const TaskPtr& other) {
    if (other->desired_state() > v1::TASK_RUNNING || slot_of(*other) != slot_of(task)) return true;
    ++all;
    return true;
  });
  const int most = pairs ? 2 : 1;
  if (all > most) {
    broken_(fmt::format("{} tasks are meant to run in slot {} of {}", all, slot_of(task),
                        name_of(task)));
  }
}

// ---------------------------------------------------------------- at every start

// As the other one's node was told: also when the task has left a network since.
void SimRules::check_addresses(const v1::Task& task, const v1::Task& other) const {
  for (const auto& mine : task.networks()) {
    for (const auto& theirs : other.networks()) {
      if (mine.network_id() != theirs.network_id()) continue;
      for (const auto& address : mine.addresses()) {
        if (std::count(theirs.addresses().begin(), theirs.addresses().end(), address) != 0) {
          broken_(fmt::format("{} is used twice", address));
        }
      }
    }
  }
}

void SimRules::on_start(const SimHost& host, const SimHost::Container& container,
                        const store::Snapshot& state) {
  const v1::Task& task = container.task;
  check_files(host, container, state);
  check_job_start(host, container, state);
  for (const auto& other_host : hosts_) {
    for (const auto& [id, other] : other_host->tasks()) {
      if (!other.alive || id == task.id()) continue;
      check_addresses(task, other.task);
      for (const auto& mine : task.ports()) {
        for (const auto& theirs : other.task.ports()) {
          const bool same = mine.mode() == v1::PortConfig::HOST &&
                            theirs.mode() == v1::PortConfig::HOST &&
                            mine.published_port() == theirs.published_port();
          if (same && other_host->id() == host.id()) {
            broken_(fmt::format("host port {} of {} is used twice, by {} and {}",
                                mine.published_port(), host.id(), task.name(), other.task.name()));
          }
        }
      }
      const bool same_slot =
          other.task.service_id() == task.service_id() && slot_of(other.task) == slot_of(task);
      if (same_slot && !may_overlap(*other_host, other, state) && !was_lost(host, task, state)) {
        const auto stored = state.get<v1::Task>(id);
        broken_(fmt::format(
            "{}: {} starts on {} while {} runs on {}, which the store {}{}", task.name(),
            details(container), host.id(), details(other), other_host->id(),
            stored == nullptr ? "does not know"
                              : "takes for " + v1::TaskState_Name(stored->status().state()),
            describe(slot_tasks(state, task))));
      }
    }
  }
}

bool SimRules::may_overlap(const SimHost& host, const SimHost::Container& other,
                           const store::Snapshot& state) const {
  if (client_.ever_start_first(name_of(other.task))) return true;
  // How long a predecessor was waited for is reckoned from times in the state.
  if (clocks_differ_) return true;
  if (other.told_to_stop && world_.now() - *other.told_to_stop >= kStopWait) return true;
  return was_lost(host, other.task, state);
}

// Whether the task's node has been taken for lost since it got the task: it was replaced then, but
// an agent that is cut off goes on with what it was told, starts included.
bool SimRules::was_lost(const SimHost& host, const v1::Task& task,
                        const store::Snapshot& state) const {
  const auto node = state.get<v1::Node>(host.id());
  if (node == nullptr || node->status().state() == v1::NodeStatus::DOWN) return true;
  const auto down = last_down_ns_.find(host.id());
  return down != last_down_ns_.end() && down->second >= task.meta().created_at_ns();
}

// ---------------------------------------------------------------- at the end

Status SimRules::check_settled(const store::Snapshot& state) const {
  MUSTER_TRY(check_services(state));
  Status status;
  state.each<v1::Service>([&](const store::Ptr<v1::Service>& service) {
    if (store::is_job(service->spec())) {
      status = check_job_settled(state, *service);
    } else {
      status = check_slots(state, *service);
      if (status.ok()) status = check_homes(state, *service);
    }
    return status.ok();
  });
  MUSTER_TRY(status);
  for (const auto& host : hosts_) {
    MUSTER_TRY(check_host(state, *host));
    MUSTER_TRY(check_members(state, *host));
    MUSTER_TRY(check_routes(state, *host));
    MUSTER_TRY(check_keys(state, *host));
    MUSTER_TRY(check_attachments(state, *host));
    MUSTER_TRY(check_host_payloads(state, *host));
  }
  MUSTER_TRY(check_payloads(state));
  return check_revisions(state);
}

Status SimRules::check_services(const store::Snapshot& state) const {
  size_t found = 0;
  for (const auto& [name, spec] : client_.services()) {
    const auto service = state.find<v1::Service>(name);
    if (service == nullptr) return internal_error("service {} was acknowledged and is lost", name);
    ++found;
    // Or what an update that failed went back to by itself, as its configuration wants it.
    const auto back = rolled_back_to_.find(name);
    const bool rolled_back =
        back != rolled_back_to_.end() && same_request(service->spec(), back->second);
    if (!same_request(service->spec(), spec) && !rolled_back) {
      return internal_error(
          "service {} is not what was acknowledged: image {} for {}, {} replicas for {}, forced {} "
          "for {}; its update is {} ({})",
          name, service->spec().task().container().image(), spec.task().container().image(),
          service->spec().replicated().replicas(), spec.replicated().replicas(),
          service->spec().task().force_update(), spec.task().force_update(),
          v1::UpdateStatus::State_Name(service->update_status().state()),
          service->update_status().message());
    }
  }
  if (state.count<v1::Service>() != found) return internal_error("there are services nobody made");
  return ok_status();
}

Status SimRules::check_slots(const store::Snapshot& state, const v1::Service& service) const {
  const std::string& name = service.spec().annotations().name();
  std::map<std::string, std::vector<TaskPtr>> slots;
  state.tasks_of_service(service.id(), [&](const TaskPtr& task) {
    slots[slot_of(*task)].push_back(task);
    return true;
  });
  uint64_t filled = 0;
  for (auto& [slot, tasks] : slots) {
    std::sort(tasks.begin(), tasks.end(), [](const TaskPtr& a, const TaskPtr& b) {
      return a->meta().created_at_ns() > b->meta().created_at_ns();
    });
    int64_t ended = 0;
    bool live = false;
    std::vector<const v1::Task*> history;
    for (const TaskPtr& task : tasks) {
      history.push_back(task.get());
      if (task->status().state() > v1::TASK_RUNNING) ++ended;
      if (task->desired_state() > v1::TASK_RUNNING) {
        if (task->status().state() <= v1::TASK_RUNNING) {
          return internal_error("task {} is not stopped", task->name());
        }
        continue;
      }
      live = true;
      const bool runs =
          task->status().state() == v1::TASK_RUNNING && task->desired_state() == v1::TASK_RUNNING;
      if (!runs && (task->status().state() > v1::TASK_PENDING || task->status().error().empty())) {
        return internal_error("task {} does not run and does not say why ({})", task->name(),
                              v1::TaskState_Name(task->status().state()));
      }
    }
    // An update under way keeps the task by which the slot failed or passed.
    const int64_t kept = kHistoryMax + (is_updating(service.update_status()) ? 1 : 0);
    if (ended > kept) {
      return internal_error("{}.{} keeps {} ended tasks{}", name, slot, ended, describe(tasks));
    }
    const auto revision =
        state.get<v1::Revision>(store::revision_id(service.id(), tasks.front()->revision()));
    const bool given_up =
        !live && revision != nullptr &&
        !wants_restart(RestartRules::of(revision->spec().restart()), *tasks.front(), history);
    if (live || given_up) ++filled;
    if (!live && !given_up && !service.spec().has_global()) {
      return internal_error("slot {} of {} is neither filled nor given up: {}", slot, name,
                            describe(tasks));
    }
  }
  uint64_t wanted = service.spec().replicated().replicas();
  if (service.spec().has_global()) {
    wanted = 0;
    state.each<v1::Node>([&](const auto& node) {
      if (!is_host(*node)) return true;
      const auto& constraints = service.spec().task().placement().constraints();
      if (constraints.empty() || !node->spec().annotations().labels().empty()) ++wanted;
      return true;
    });
  }
  // A node of a global service may keep the given-up task of the time when it was eligible.
  const bool as_asked = service.spec().has_global() ? filled >= wanted : filled == wanted;
  if (!as_asked) {
    return internal_error("service {} has {} of {} slots filled", name, filled, wanted);
  }
  return ok_status();
}

// No task is where it may not stay, but for one that an update in its middle is to replace.
Status SimRules::check_homes(const store::Snapshot& state, const v1::Service& service) const {
  const bool updates = is_updating(service.update_status());
  Status status;
  state.tasks_of_service(service.id(), [&](const TaskPtr& task) {
    if (task->desired_state() > v1::TASK_RUNNING || task->node_id().empty()) return true;
    const auto node = state.get<v1::Node>(task->node_id());
    if (updates && task->revision() != service.revision()) return true;
    // Of an older revision with the same content, which one counts depends; not if both say no.
    bool suits = !node->spec().annotations().labels().empty();
    for (const uint64_t number : {task->revision(), service.revision()}) {
      const auto revision = state.get<v1::Revision>(store::revision_id(service.id(), number));
      suits = suits || revision->spec().placement().constraints().empty();
    }
    if (!suits) {
      status = internal_error("{} stays on {}, which lacks the label; revision {}, {}{}",
                              task->name(), node->id(), service.revision(),
                              v1::UpdateStatus::State_Name(service.update_status().state()),
                              describe(slot_tasks(state, *task)));
    }
    const auto crowded = manager::orchestrator::crowded_out(state, *node);
    if (const auto at = crowded.find(task->id()); at != crowded.end()) {
      status = internal_error("{} stays on {}: {}", task->name(), node->id(), at->second);
    }
    return status.ok();
  });
  return status;
}

Status SimRules::check_host(const store::Snapshot& state, const SimHost& host) const {
  if (!host.established()) return internal_error("{} has no session", host.id());
  const auto node = state.get<v1::Node>(host.id());
  if (node->status().state() != v1::NodeStatus::READY) {
    return internal_error("{} is not ready: {}", host.id(), node->status().message());
  }
  size_t assigned = 0;
  Status status;
  state.tasks_of_node(host.id(), [&](const TaskPtr& task) {
    if (task->status().state() < v1::TASK_ASSIGNED) return true;
    ++assigned;
    const auto container = host.tasks().find(task->id());
    if (container == host.tasks().end()) {
      status = internal_error("{} does not know task {}", host.id(), task->name());
    } else if (container->second.alive != (task->status().state() == v1::TASK_RUNNING)) {
      status = internal_error("task {} is {} but its container {}", task->name(),
                              v1::TaskState_Name(task->status().state()),
                              container->second.alive ? "runs" : "does not run");
    }
    return status.ok();
  });
  MUSTER_TRY(status);
  if (host.tasks().size() != assigned) {
    return internal_error("{} holds {} tasks, {} are assigned", host.id(), host.tasks().size(),
                          assigned);
  }
  return host.check_settled();
}

Status SimRules::check_members(const store::Snapshot& state, const SimHost& host) const {
  std::set<std::string> networks;
  state.tasks_of_node(host.id(), [&](const TaskPtr& task) {
    if (!manager::dispatcher::is_member(*task)) return true;
    for (const auto& attachment : task->networks()) networks.insert(attachment.network_id());
    return true;
  });
  for (const std::string& id : networks) {
    std::set<std::string> members;
    state.tasks_of_network(id, [&](const TaskPtr& task) {
      if (manager::dispatcher::is_member(*task)) members.insert(task->id());
      return true;
    });
    const auto known = host.members().find(id);
    if (known == host.members().end() || known->second != members) {
      return internal_error("{} does not know who is in network {}", host.id(), id);
    }
  }
  return ok_status();
}

Status SimRules::check_revisions(const store::Snapshot& state) const {
  std::set<std::string> used;
  state.each<v1::Service>([&](const auto& service) {
    used.insert(store::revision_id(service->id(), service->revision()));
    if (service->has_previous_spec()) {
      used.insert(store::revision_id(service->id(), service->previous_revision()));
    }
    return true;
  });
  state.each<v1::Task>([&](const TaskPtr& task) {
    used.insert(store::revision_id(task->service_id(), task->revision()));
    return true;
  });
  Status status;
  state.each<v1::Revision>([&](const auto& revision) {
    if (!used.contains(revision->id())) {
      status = internal_error("revision {} has no user", revision->id());
    }
    return status.ok();
  });
  return status;
}

Status SimRules::check_empty(const store::Snapshot& state) const {
  if (state.count<v1::Task>() != 0) {
    return internal_error("{} tasks outlive their services", state.count<v1::Task>());
  }
  if (state.count<v1::Revision>() != 0) return internal_error("revisions outlive their services");
  if (state.count<v1::Blob>() != 0) return internal_error("payloads outlive their owners");
  for (const auto& host : hosts_) {
    if (!host->tasks().empty()) return internal_error("{} still holds tasks", host->id());
    if (host->payloads().size() != 0) return internal_error("{} still holds payloads", host->id());
    MUSTER_TRY(host->check_settled());
  }
  return ok_status();
}

}  // namespace muster::sim
