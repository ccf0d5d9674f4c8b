#include "tests/sim/sim_state_rules.h"

#include <fmt/format.h>

#include <type_traits>
#include <variant>
#include <vector>

namespace muster::sim {

namespace store = manager::store;
using TaskPtr = store::Ptr<v1::Task>;

namespace {

// A decision is made from a state of before; the commit may come after a slow disk and a fsync that
// waits for it.
constexpr Duration kDecision = 15s;
// Five heartbeats of a second, and what clocks that run fast make of them.
constexpr Duration kSilence = 4'800ms;

template <class T>
void count_of(const store::Snapshot& before, const store::CommitEvent& event, std::string& wrong) {
  int64_t grown = 0;
  for (const store::AnyChange& any : *event.changes) {
    const auto* change = std::get_if<store::Change<T>>(&any);
    if (change == nullptr) continue;
    if (change->before == nullptr) ++grown;
    if (change->after == nullptr) --grown;
  }
  const auto had = static_cast<int64_t>(before.count<T>());
  const auto has = static_cast<int64_t>(event.after.count<T>());
  if (wrong.empty() && had + grown != has) {
    wrong = fmt::format("{} objects of one kind, {} changes, then {}", had, grown, has);
  }
}

// Has not ended.
bool counts(const v1::Task& task) {
  return task.status().state() <= v1::TASK_RUNNING;
}

// A task of a global service names its node before it is put there.
bool is_placed(const v1::Task& task) {
  return task.status().state() >= v1::TASK_ASSIGNED && counts(task);
}

}  // namespace

std::string differs_from(const store::Snapshot& before, const store::CommitEvent& event) {
  std::string wrong;
  if (event.version <= before.version()) {
    return fmt::format("version {} follows {}", event.version, before.version());
  }
  for (const store::AnyChange& any : *event.changes) {
    std::visit(
        [&](const auto& change) {
          const auto& some = change.after != nullptr ? change.after : change.before;
          using T =
              std::remove_cv_t<typename std::remove_reference_t<decltype(some)>::element_type>;
          const std::string& id = some->id();
          if (before.get<T>(id) != change.before) wrong = "a change of " + id + " from elsewhere";
          if (event.after.get<T>(id) != change.after) wrong = "a change of " + id + " to elsewhere";
        },
        any);
  }
  count_of<v1::Node>(before, event, wrong);
  count_of<v1::Service>(before, event, wrong);
  count_of<v1::Task>(before, event, wrong);
  count_of<v1::Network>(before, event, wrong);
  count_of<v1::Secret>(before, event, wrong);
  count_of<v1::Config>(before, event, wrong);
  count_of<v1::Revision>(before, event, wrong);
  count_of<v1::Blob>(before, event, wrong);
  return wrong;
}

void SimStateRules::on_commit(const store::CommitEvent& event) {
  bool networks = false;
  for (const store::AnyChange& any : *event.changes) {
    if (const auto* node = std::get_if<store::Change<v1::Node>>(&any)) {
      const auto& [before, after] = *node;
      const bool same =
          before != nullptr && after != nullptr &&
          before->spec().SerializeAsString() == after->spec().SerializeAsString() &&
          before->description().SerializeAsString() == after->description().SerializeAsString();
      if (!same) changed_[(after != nullptr ? after : before)->id()] = world_.now();
      if (after == nullptr) indexes_.erase(before->id());
      if (after != nullptr && (before == nullptr || before->ingress().SerializeAsString() !=
                                                        after->ingress().SerializeAsString())) {
        check_place(*after, event.after);
      }
      if (before != nullptr && after != nullptr &&
          before->status().state() != v1::NodeStatus::DOWN &&
          after->status().state() == v1::NodeStatus::DOWN) {
        check_lost(after->id());
      }
    } else if (const auto* service = std::get_if<store::Change<v1::Service>>(&any)) {
      changed_[(service->after != nullptr ? service->after : service->before)->id()] = world_.now();
    } else if (std::get_if<store::Change<v1::Network>>(&any) != nullptr) {
      networks = true;
    }
  }
  for (const store::AnyChange& any : *event.changes) {
    const auto* task = std::get_if<store::Change<v1::Task>>(&any);
    if (task == nullptr || task->after == nullptr) continue;
    const auto& [before, after] = *task;
    if (!after->node_id().empty()) entitle(*after, event.after);
    const bool fresh = after->status().state() >= v1::TASK_ASSIGNED &&
                       (before == nullptr || before->status().state() < v1::TASK_ASSIGNED);
    if (fresh && counts(*after)) placed(*after, event.after);
    if (before == nullptr || before->networks().size() != after->networks().size() || fresh) {
      check_addresses(*after, event.after);
    }
  }
  if (networks) check_networks(event.after);
}

// Long enough ago that what was decided since has seen it.
bool SimStateRules::stable(const std::string& id) const {
  const auto at = changed_.find(id);
  return at == changed_.end() || world_.now() - at->second > kDecision;
}

void SimStateRules::placed(const v1::Task& task, const store::Snapshot& state) {
  const auto node = state.get<v1::Node>(task.node_id());
  const auto revision =
      state.get<v1::Revision>(store::revision_id(task.service_id(), task.revision()));
  if (node == nullptr || revision == nullptr || !stable(node->id())) return;
  if (!revision->spec().placement().constraints().empty() &&
      node->spec().annotations().labels().empty()) {
    broken_(fmt::format("{} is put on {}, which lacks the label (M6)", task.name(), node->id()));
  }
  // What reserves nothing needs no room; those that have to leave a node that shrank do so in turn.
  if (revision->spec().resources().reservations().memory_bytes() != 0) check_room(*node, state);
  check_ports(task, state);
}

void SimStateRules::check_room(const v1::Node& node, const store::Snapshot& state) {
  int64_t reserved = 0;
  std::string who;
  state.tasks_of_node(node.id(), [&](const TaskPtr& task) {
    const auto revision =
        state.get<v1::Revision>(store::revision_id(task->service_id(), task->revision()));
    if (revision != nullptr && is_placed(*task) && task->desired_state() <= v1::TASK_COMPLETE) {
      const int64_t bytes = revision->spec().resources().reservations().memory_bytes();
      reserved += bytes;
      if (bytes != 0) {
        who += fmt::format("\n  {} {} {} wanted {}", task->name(), task->id().substr(0, 6),
                           v1::TaskState_Name(task->status().state()),
                           v1::TaskState_Name(task->desired_state()));
      }
    }
    return true;
  });
  if (reserved > node.description().resources().memory_bytes()) {
    broken_(fmt::format("{} bytes are reserved on {}, which has {} (M5){}", reserved, node.id(),
                        node.description().resources().memory_bytes(), who));
  }
}

void SimStateRules::check_ports(const v1::Task& task, const store::Snapshot& state) {
  state.tasks_of_node(task.node_id(), [&](const TaskPtr& other) {
    if (other->id() == task.id() || !is_placed(*other)) return true;
    for (const auto& mine : task.ports()) {
      for (const auto& theirs : other->ports()) {
        if (mine.mode() == v1::PortConfig::HOST && theirs.mode() == v1::PortConfig::HOST &&
            mine.published_port() == theirs.published_port()) {
          broken_(fmt::format("{} ({}) is put on {}, where {} ({}, {} wanted {}) has port {} (M6)",
                              task.name(), task.id(), task.node_id(), other->name(), other->id(),
                              v1::TaskState_Name(other->status().state()),
                              v1::TaskState_Name(other->desired_state()), mine.published_port()));
        }
      }
    }
    return true;
  });
}

// Of tasks that have not ended, and of services.
void SimStateRules::check_addresses(const v1::Task& task, const store::Snapshot& state) {
  if (!counts(task)) return;
  for (const auto& mine : task.networks()) {
    const std::set<std::string> addresses(mine.addresses().begin(), mine.addresses().end());
    state.tasks_of_network(mine.network_id(), [&](const TaskPtr& other) {
      if (other->id() == task.id() || !counts(*other)) return true;
      for (const auto& theirs : other->networks()) {
        if (theirs.network_id() != mine.network_id()) continue;
        for (const std::string& address : theirs.addresses()) {
          if (addresses.contains(address)) {
            broken_(
                fmt::format("{} and {} both have {} (M10)", task.name(), other->name(), address));
          }
        }
      }
      return true;
    });
    state.tasks_in_state(v1::TASK_RUNNING, [&](const TaskPtr& other) {
      for (const auto& left : other->left()) {
        if (left.network_id() != mine.network_id()) continue;
        for (const std::string& address : left.addresses()) {
          if (addresses.contains(address)) {
            broken_(fmt::format("{} has {}, which {} may still have (M10)", task.name(), address,
                                other->name()));
          }
        }
      }
      return true;
    });
    state.each<v1::Node>([&](const auto& node) {
      for (const std::string& address : node->ingress().addresses()) {
        if (addresses.contains(address)) {
          broken_(fmt::format("{} has {}, the address of node {} (M10)", task.name(), address,
                              node->id()));
        }
      }
      return true;
    });
    state.services_of_network(mine.network_id(), [&](const auto& service) {
      for (const auto& vip : service->endpoint().virtual_ips()) {
        if (vip.network_id() == mine.network_id() && addresses.contains(vip.address())) {
          broken_(fmt::format("{} has {}, the address of service {} (M10)", task.name(),
                              vip.address(), service->spec().annotations().name()));
        }
      }
      return true;
    });
  }
}

// A node's place in the routing mesh is nobody else's, and its index stays.
void SimStateRules::check_place(const v1::Node& node, const store::Snapshot& state) {
  const auto [known, fresh] = indexes_.try_emplace(node.id(), node.ingress().index());
  if (!fresh && known->second != 0 && known->second != node.ingress().index()) {
    broken_(fmt::format("{} had index {} in the mesh and has {} (M10)", node.id(), known->second,
                        node.ingress().index()));
  }
  known->second = node.ingress().index();
  const std::set<std::string> mine(node.ingress().addresses().begin(),
                                   node.ingress().addresses().end());
  const auto check = [&](const auto& theirs, const std::string& name) {
    for (const std::string& address : theirs) {
      if (!mine.contains(address)) continue;
      broken_(fmt::format("{} and {} both have {} (M10)", node.id(), name, address));
    }
  };
  state.each<v1::Node>([&](const auto& other) {
    if (other->id() == node.id()) return true;
    check(other->ingress().addresses(), other->id());
    if (other->ingress().index() != 0 && other->ingress().index() == node.ingress().index()) {
      broken_(fmt::format("{} and {} both have index {} in the mesh (M10)", node.id(), other->id(),
                          node.ingress().index()));
    }
    return true;
  });
  state.each<v1::Task>([&](const TaskPtr& task) {
    if (!counts(*task)) return true;
    for (const auto& theirs : task->networks()) check(theirs.addresses(), task->name());
    return true;
  });
}

void SimStateRules::check_networks(const store::Snapshot& state) {
  std::map<uint32_t, std::string> numbers;
  std::map<std::string, std::string> subnets;
  state.each<v1::Network>([&](const auto& network) {
    if (network->state().vni() != 0) {
      const auto [other, fresh] = numbers.try_emplace(network->state().vni(), network->id());
      if (!fresh) {
        broken_(fmt::format("networks {} and {} both have VNI {} (M10)", other->second,
                            network->id(), network->state().vni()));
      }
    }
    for (const auto& pool : network->state().pools()) {
      if (pool.subnet().empty()) continue;
      const auto [other, fresh] = subnets.try_emplace(pool.subnet(), network->id());
      if (!fresh) {
        broken_(fmt::format("networks {} and {} both have {} (M10)", other->second, network->id(),
                            pool.subnet()));
      }
    }
    return true;
  });
}

void SimStateRules::heard(const std::string& node_id) {
  Silence& silence = silences_[node_id];
  const TimePoint now = world_.now();
  if (now - silence.heard >= kSilence) silence.ended = now;
  silence.heard = now;
}

void SimStateRules::check_lost(const std::string& node_id) {
  const auto found = silences_.find(node_id);
  if (found == silences_.end()) return;
  const TimePoint now = world_.now();
  const bool silent = now - found->second.heard >= kSilence;
  const bool was = now - found->second.ended <= kDecision;  // it came back meanwhile
  if (!silent && !was) {
    broken_(fmt::format("{} is taken for lost, but was heard {} ago (M9)", node_id,
                        format_duration(now - found->second.heard)));
  }
}

void SimStateRules::entitle(const v1::Task& task, const store::Snapshot& state) {
  const auto revision =
      state.get<v1::Revision>(store::revision_id(task.service_id(), task.revision()));
  if (revision == nullptr) return;
  std::set<std::string>& ids = entitled_[task.node_id()];
  for (const auto& secret : revision->spec().container().secrets()) ids.insert(secret.secret_id());
  for (const auto& config : revision->spec().container().configs()) ids.insert(config.config_id());
}

bool SimStateRules::entitled(const std::string& node_id, const std::string& payload_id) const {
  const auto known = entitled_.find(node_id);
  return known != entitled_.end() && known->second.contains(payload_id);
}

}  // namespace muster::sim
