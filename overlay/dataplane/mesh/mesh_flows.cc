#include "overlay/dataplane/mesh/mesh_flows.h"

#include <algorithm>
#include <utility>

namespace muster::overlay {

void MeshFlows::put(const std::string& id, const v1::NetworkEndpoint* endpoint,
                    std::set<Ip>& touched) {
  Task now;
  if (endpoint != nullptr) {
    for (const std::string& text : endpoint->addresses()) {
      if (const auto ip = Ip::parse(text)) now.addresses.push_back(*ip);
    }
    now.seen = endpoint->state() != v1::ENDPOINT_ABSENT;
  }
  const auto before = known_.find(id);
  // Of a task that was there before this process was it is not known.
  now.led = now.seen || !begun_ || (before != known_.end() && before->second.led);
  if (before != known_.end()) {
    for (const Ip& ip : before->second.addresses) {
      const auto at = tasks_.find(ip);
      at->second.erase(id);
      if (at->second.empty()) tasks_.erase(at);
      if (before->second.led) touched.insert(ip);
    }
    known_.erase(before);
  }
  if (endpoint == nullptr) return;
  for (const Ip& ip : now.addresses) {
    tasks_[ip].insert(id);
    touched.insert(ip);
  }
  known_.emplace(id, std::move(now));
}

std::vector<Ip> MeshFlows::apply(const NetworkTruth& truth, const NetworkDifference& difference) {
  std::set<Ip> touched;
  if (!begun_) {
    for (const auto& [id, endpoint] : truth.endpoints) put(id, &endpoint, touched);
  } else {
    for (const std::string& id : difference.task_ids) {
      const auto told = truth.endpoints.find(id);
      put(id, told == truth.endpoints.end() ? nullptr : &told->second, touched);
    }
  }
  begun_ = true;
  std::vector<Ip> gone;
  for (const Ip& ip : touched) {
    const auto at = tasks_.find(ip);
    if (at == tasks_.end()) {
      gone.push_back(ip);
      lost_.erase(ip);
      continue;
    }
    const auto any = [&](bool Task::*what) {
      return std::any_of(at->second.begin(), at->second.end(),
                         [&](const std::string& id) { return known_.at(id).*what; });
    };
    if (any(&Task::led) && !any(&Task::seen)) {
      lost_.insert(ip);
    } else {
      lost_.erase(ip);
    }
  }
  return gone;
}

}  // namespace muster::overlay
