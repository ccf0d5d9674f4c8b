#include "manager/drainer/drain_book.h"

#include <algorithm>

namespace muster::manager::drainer {

bool DrainBook::Group::complete() const {
  return std::all_of(awaited.begin(), awaited.end(),
                     [](const auto& network) { return network.second.empty(); });
}

std::vector<std::string> DrainBook::Group::missing() const {
  std::set<std::string> nodes;
  for (const auto& [network, waiting] : awaited) nodes.insert(waiting.begin(), waiting.end());
  return {nodes.begin(), nodes.end()};
}

void DrainBook::add(const std::string& task_id, uint64_t version,
                    const std::vector<std::string>& networks, TimePoint deadline,
                    const std::function<Routers(const std::string&)>& routers) {
  Key key(version, networks);
  std::sort(key.second.begin(), key.second.end());
  if (!tasks_.try_emplace(task_id, key).second) return;
  const auto [at, fresh] = groups_.try_emplace(key);
  Group& group = at->second;
  group.tasks.insert(task_id);
  if (!fresh) return;
  group.deadline = deadline;
  for (const std::string& network_id : key.second) {
    std::set<std::string>& awaited = group.awaited[network_id];
    for (const auto& [node_id, applied] : routers(network_id)) {
      if (applied < version) awaited.insert(node_id);
    }
  }
}

void DrainBook::remove(const std::string& task_id) {
  const auto known = tasks_.extract(task_id);
  if (!known) return;
  const auto group = groups_.find(known.mapped());
  group->second.tasks.erase(task_id);
  if (group->second.tasks.empty()) groups_.erase(group);
}

void DrainBook::routes(const std::string& node_id, const std::string& network_id,
                       uint64_t version) {
  for (auto& [key, group] : groups_) {
    const auto network = group.awaited.find(network_id);
    if (network == group.awaited.end()) continue;
    if (version >= key.first) {
      network->second.erase(node_id);
    } else {
      network->second.insert(node_id);
    }
  }
}

void DrainBook::leaves(const std::string& node_id, const std::string& network_id) {
  routes(node_id, network_id, UINT64_MAX);
}

void DrainBook::gone(const std::string& node_id) {
  for (auto& [key, group] : groups_) {
    for (auto& [network, awaited] : group.awaited) awaited.erase(node_id);
  }
}

std::vector<DrainBook::Released> DrainBook::take_released(TimePoint now) {
  std::vector<Released> out;
  for (auto at = groups_.begin(); at != groups_.end();) {
    const Group& group = at->second;
    if (!group.complete() && now < group.deadline) {
      ++at;
      continue;
    }
    const std::vector<std::string> missing = group.missing();
    for (const std::string& task_id : group.tasks) {
      tasks_.erase(task_id);
      out.push_back({task_id, missing});
    }
    at = groups_.erase(at);
  }
  return out;
}

std::optional<TimePoint> DrainBook::next_deadline() const {
  std::optional<TimePoint> first;
  for (const auto& [key, group] : groups_) {
    if (!first || group.deadline < *first) first = group.deadline;
  }
  return first;
}

}  // namespace muster::manager::drainer
