#include "scheduler/cluster_state.h"

#include <algorithm>

#include "base/check.h"

namespace muster::scheduler {
namespace {

const std::vector<v1::GenericResource> kNoGenerics;

// Failures remembered per node; more make no difference to the order that matters.
constexpr size_t kFailuresKept = 64;

bool holds_something(const v1::Task& task) {
  const auto state = task.status().state();
  return !task.node_id().empty() && state >= v1::TASK_ASSIGNED && state <= v1::TASK_RUNNING;
}

bool wanted(const v1::Task& task) {
  return task.desired_state() <= v1::TASK_COMPLETE;
}

bool has_failed(const v1::Task& task) {
  const auto state = task.status().state();
  return state == v1::TASK_FAILED || state == v1::TASK_REJECTED;
}

// The manager's clock where it is known: agents' clocks may be off.
WallTime failure_time(const v1::Task& task) {
  const auto& status = task.status();
  return {status.applied_at_ns() != 0 ? status.applied_at_ns() : status.timestamp_ns()};
}

bool same_shape(const TaskShape& shape, const v1::Task& task) {
  return shape.service_id == task.service_id() &&
         (shape.revision == task.revision() || shape.service_id.empty());
}

bool same_generics(const v1::Task& task, const std::vector<v1::GenericResource>* held) {
  const auto& stored = task.assigned_generic();
  const size_t count = held == nullptr ? 0 : held->size();
  if (static_cast<size_t>(stored.size()) != count) return false;
  for (int i = 0; i < stored.size(); ++i) {
    const auto& a = stored[i];
    const auto& b = (*held)[static_cast<size_t>(i)];
    if (a.kind() != b.kind() || a.count() != b.count() ||
        !std::equal(a.names().begin(), a.names().end(), b.names().begin(), b.names().end())) {
      return false;
    }
  }
  return true;
}

std::vector<std::pair<std::string, std::string>> plugins_of(const v1::Node& node) {
  std::vector<std::pair<std::string, std::string>> plugins;
  for (const auto& plugin : node.description().engine().plugins()) {
    plugins.emplace_back(plugin.type(), plugin.name());
  }
  std::sort(plugins.begin(), plugins.end());
  return plugins;
}

}  // namespace

// ---------------------------------------------------------------- nodes

NodeIndex ClusterState::intern_node(std::string_view id) {
  auto [at, added] = node_index_.try_emplace(std::string(id), kNoIndex);
  if (!added) return at->second;
  if (!free_nodes_.empty()) {
    at->second = free_nodes_.back();
    free_nodes_.pop_back();
  } else {
    at->second = static_cast<NodeIndex>(nodes_.size());
    nodes_.emplace_back();
  }
  NodeInfo& node = nodes_[at->second];
  node = NodeInfo{};
  node.index = at->second;
  node.facts.id = id;
  columns_.node_changed(node);
  return at->second;
}

NodeIndex ClusterState::find_node(std::string_view id) const {
  auto at = node_index_.find(std::string(id));
  return at == node_index_.end() ? kNoIndex : at->second;
}

void ClusterState::put_node(const v1::Node& stored) {
  NodeInfo& node = nodes_[intern_node(stored.id())];
  NodeFacts facts = facts_of(stored);
  const bool facts_changed = !node.present || facts != node.facts;
  auto plugins = plugins_of(stored);
  // Heartbeats and the like rewrite the object without touching anything placement looks at.
  const bool totals_changed = node.set_totals(stored.description().resources());
  const std::string& no_overlays = stored.description().no_overlays();
  const std::string& no_encryption = stored.description().no_encryption();
  if (facts_changed || totals_changed || plugins != node.plugins ||
      no_overlays != node.no_overlays || no_encryption != node.no_encryption ||
      node.state != stored.status().state() || node.availability != stored.spec().availability()) {
    changes_.nodes = true;
  }
  if (!node.present) ranks_stale_ = true;
  node.facts = std::move(facts);
  node.present = true;
  node.version = stored.meta().version();
  node.state = stored.status().state();
  node.availability = stored.spec().availability();
  node.plugins = std::move(plugins);
  lacking_overlays_ -= node.no_overlays.empty() ? 0 : 1;
  lacking_overlays_ += no_overlays.empty() ? 0 : 1;
  node.no_overlays = no_overlays;
  node.no_encryption = no_encryption;
  if (facts_changed) columns_.node_changed(node);
}

void ClusterState::set_network(const std::string& id, NetworkNeeds needs) {
  const bool changed = needs.overlay ? overlays_.insert(id).second : overlays_.erase(id) != 0;
  if (changed && some_lack_overlays()) changes_.nodes = true;
  const auto& [overlay, encrypted, ingress] = needs;
  const auto known = encrypted_.find(id);
  if (encrypted ? known != encrypted_.end() && known->second == ingress
                : known == encrypted_.end()) {
    return;
  }
  // What tasks need of nodes is another.
  changes_.nodes = true;
  if (encrypted) {
    encrypted_[id] = ingress;
  } else {
    encrypted_.erase(known);
  }
}

bool ClusterState::enters_overlays(const TaskShape& shape) const {
  return shape.in_mesh ||
         std::any_of(shape.networks.begin(), shape.networks.end(),
                     [&](const std::string& id) { return overlays_.contains(id); });
}

bool ClusterState::encrypts(const TaskShape& shape) const {
  if (encrypted_.empty()) return false;
  return std::any_of(encrypted_.begin(), encrypted_.end(), [&](const auto& network) {
    return (network.second && shape.in_mesh) ||
           std::find(shape.networks.begin(), shape.networks.end(), network.first) !=
               shape.networks.end();
  });
}

void ClusterState::remove_node(std::string_view id) {
  const NodeIndex index = find_node(id);
  if (index == kNoIndex || !nodes_[index].present) return;
  nodes_[index].present = false;
  lacking_overlays_ -= nodes_[index].no_overlays.empty() ? 0 : 1;
  nodes_[index].no_overlays.clear();
  ranks_stale_ = true;
  columns_.node_changed(nodes_[index]);
  changes_.nodes = true;
  node_gone_if_unused(index);
}

void ClusterState::node_gone_if_unused(NodeIndex index) {
  NodeInfo& node = nodes_[index];
  if (node.present || node.holding_tasks != 0) return;
  // Failures on it are meaningless to whoever gets the number next.
  for (ShapeEntry& entry : shapes_) entry.failures.erase(index);
  node_index_.erase(node.facts.id);
  node.facts = {};
  free_nodes_.push_back(index);
}

void ClusterState::refresh_ranks() {
  if (!ranks_stale_) return;
  std::vector<NodeIndex> order;
  for (const NodeInfo& node : nodes_) {
    if (node.present) order.push_back(node.index);
  }
  std::sort(order.begin(), order.end(),
            [this](NodeIndex a, NodeIndex b) { return nodes_[a].facts.id < nodes_[b].facts.id; });
  for (size_t i = 0; i < order.size(); ++i) nodes_[order[i]].rank = static_cast<uint32_t>(i);
  ranks_stale_ = false;
}

// ---------------------------------------------------------------- services and shapes

ServiceIndex ClusterState::intern_service(std::string_view id) {
  auto [at, added] = service_index_.try_emplace(std::string(id), kNoIndex);
  if (!added) return at->second;
  if (!free_services_.empty()) {
    at->second = free_services_.back();
    free_services_.pop_back();
  } else {
    at->second = static_cast<ServiceIndex>(services_.size());
    services_.emplace_back();
  }
  services_[at->second] = ServiceEntry{std::string(id), {}, {}};
  return at->second;
}

ShapeIndex ClusterState::retain_shape(std::string_view service_id, uint64_t revision) {
  // Without a service there is no revision to wait for: one empty shape for all such tasks.
  if (service_id.empty()) revision = 0;
  const ServiceIndex service = intern_service(service_id);
  for (auto& [number, index] : services_[service].shapes) {
    if (number != revision) continue;
    ++shapes_[index].users;
    return index;
  }
  ShapeIndex index;
  if (!free_shapes_.empty()) {
    index = free_shapes_.back();
    free_shapes_.pop_back();
  } else {
    index = static_cast<ShapeIndex>(shapes_.size());
    shapes_.emplace_back();
  }
  ShapeEntry& entry = shapes_[index];
  entry = ShapeEntry{};
  entry.shape.service_id = service_id;
  entry.shape.revision = revision;
  entry.known = service_id.empty();
  entry.service = service;
  entry.users = 1;
  services_[service].shapes.emplace_back(revision, index);
  return index;
}

void ClusterState::release_shape(ShapeIndex index) {
  ShapeEntry& entry = shapes_[index];
  MUSTER_CHECK(entry.users > 0, "shape released once too often");
  if (--entry.users > 0) return;
  ServiceEntry& service = services_[entry.service];
  std::erase_if(service.shapes, [&](const auto& s) { return s.second == index; });
  if (service.shapes.empty()) {
    service_index_.erase(service.id);
    service = ServiceEntry{};
    free_services_.push_back(entry.service);
  }
  entry = ShapeEntry{};
  free_shapes_.push_back(index);
}

const TaskShape* ClusterState::shape(ShapeIndex index) const {
  const ShapeEntry& entry = shapes_[index];
  return entry.known ? &entry.shape : nullptr;
}

void ClusterState::put_revision(const v1::Revision& revision) {
  const ShapeIndex index = retain_shape(revision.service_id(), revision.number());
  ShapeEntry& entry = shapes_[index];
  if (entry.stored) {  // immutable: nothing new
    release_shape(index);
    return;
  }
  entry.stored = true;
  if (entry.known) return;
  const bool waited_for = entry.users > 1;
  // Tasks that came first were charged nothing; charge them what they really reserve.
  std::vector<TaskEntry*> early;
  if (waited_for) {
    tasks_.for_each([&](TaskEntry& task) {
      if (task.shape == index) early.push_back(&task);
    });
  }
  for (TaskEntry* task : early) release(*task);
  entry.shape = shape_of(revision);
  entry.known = true;
  for (TaskEntry* task : early) hold(*task);
  if (waited_for) changes_.revisions = true;
}

void ClusterState::remove_revision(std::string_view service_id, uint64_t number) {
  auto at = service_index_.find(std::string(service_id));
  if (at == service_index_.end()) return;
  for (auto& [revision, index] : services_[at->second].shapes) {
    if (revision != number || !shapes_[index].stored) continue;
    // Users keep what they know of it; the last one frees it.
    shapes_[index].stored = false;
    release_shape(index);
    return;
  }
}

const ClusterState::Counts* ClusterState::service_tasks(ShapeIndex shape) const {
  const Counts& counts = services_[shapes_[shape].service].active;
  return counts.empty() ? nullptr : &counts;
}

void ClusterState::add_failure(ShapeIndex shape, NodeIndex node, WallTime when) {
  auto& times = shapes_[shape].failures[node];
  if (times.size() >= kFailuresKept) times.erase(times.begin());
  times.push_back(when);
}

ClusterState::Counts ClusterState::recent_failures(ShapeIndex shape, WallTime now) {
  Counts recent;
  auto& failures = shapes_[shape].failures;
  for (auto at = failures.begin(); at != failures.end();) {
    std::erase_if(at->second, [&](WallTime t) { return t < now - kFailureWindow; });
    if (at->second.empty()) {
      at = failures.erase(at);
    } else {
      recent[at->first] = static_cast<uint32_t>(at->second.size());
      ++at;
    }
  }
  return recent;
}

// ---------------------------------------------------------------- tasks

void ClusterState::hold(TaskEntry& entry) {
  nodes_[entry.node].hold(shapes_[entry.shape].shape,
                          entry.generics ? *entry.generics : kNoGenerics);
}

void ClusterState::release(TaskEntry& entry) {
  nodes_[entry.node].release(shapes_[entry.shape].shape,
                             entry.generics ? *entry.generics : kNoGenerics);
}

void ClusterState::set_active(TaskEntry& entry, bool active) {
  if (entry.active == active) return;
  entry.active = active;
  Counts& counts = services_[shapes_[entry.shape].service].active;
  if (active) {
    ++nodes_[entry.node].active_tasks;
    // Tasks without a service have nothing in common to be spread by.
    if (!shapes_[entry.shape].shape.service_id.empty()) ++counts[entry.node];
    return;
  }
  --nodes_[entry.node].active_tasks;
  auto at = counts.find(entry.node);
  if (at != counts.end() && --at->second == 0) counts.erase(at);
  changes_.freed.push_back(entry.node);  // one replica less on the node
}

void ClusterState::drop_task(TaskEntry& entry) {
  set_active(entry, false);
  release(entry);
  changes_.freed.push_back(entry.node);
  const TaskPtr task = entry.task;  // keeps the id the table looks for
  const NodeIndex node = entry.node;
  const ShapeIndex shape = entry.shape;
  tasks_.erase(task->id());
  release_shape(shape);
  node_gone_if_unused(node);
}

void ClusterState::put_task(const TaskPtr& task) {
  if (TaskEntry* entry = tasks_.find(task->id())) {
    const bool same = holds_something(*task) && nodes_[entry->node].facts.id == task->node_id() &&
                      same_shape(shapes_[entry->shape].shape, *task) &&
                      same_generics(*task, entry->generics.get());
    if (same) {
      // The usual change, of state: the accounts stay.
      set_active(*entry, wanted(*task));
      entry->assumed = false;
      entry->task = task;
      return;
    }
    if (has_failed(*task)) add_failure(entry->shape, entry->node, failure_time(*task));
    drop_task(*entry);
  }
  if (!holds_something(*task)) return;
  TaskEntry entry;
  entry.task = task;
  entry.node = intern_node(task->node_id());
  entry.shape = retain_shape(task->service_id(), task->revision());
  if (task->assigned_generic_size() > 0) {
    entry.generics = std::make_unique<std::vector<v1::GenericResource>>(
        task->assigned_generic().begin(), task->assigned_generic().end());
  }
  hold(entry);
  set_active(entry, wanted(*task));
  tasks_.insert(std::move(entry));
}

void ClusterState::remove_task(std::string_view id) {
  if (TaskEntry* entry = tasks_.find(id)) drop_task(*entry);
}

void ClusterState::note_failure(const v1::Task& task) {
  if (!has_failed(task) || task.node_id().empty()) return;
  // Remembered only for revisions and nodes there are: nobody else can ask for them.
  const NodeIndex node = find_node(task.node_id());
  auto service = service_index_.find(task.service_id());
  if (node == kNoIndex || service == service_index_.end()) return;
  for (auto& [revision, index] : services_[service->second].shapes) {
    if (revision == task.revision()) add_failure(index, node, failure_time(task));
  }
}

void ClusterState::assume(const TaskPtr& task, ShapeIndex shape, NodeIndex node,
                          std::vector<v1::GenericResource> generics) {
  TaskEntry entry;
  entry.task = task;
  entry.node = node;
  entry.shape = shape;
  entry.assumed = true;
  ++shapes_[shape].users;
  if (!generics.empty()) {
    entry.generics = std::make_unique<std::vector<v1::GenericResource>>(std::move(generics));
  }
  hold(entry);
  set_active(entry, true);
  tasks_.insert(std::move(entry));
}

bool ClusterState::forget(std::string_view task_id) {
  TaskEntry* entry = tasks_.find(task_id);
  if (entry == nullptr || !entry->assumed) return false;
  drop_task(*entry);
  return true;
}

ClusterState::Changes ClusterState::take_changes() {
  Changes taken;
  std::swap(taken, changes_);
  return taken;
}

}  // namespace muster::scheduler
