#include "scheduler/pipeline.h"

#include <fmt/format.h>

#include <algorithm>

#include "scheduler/filters/constraint.h"
#include "scheduler/filters/encryption.h"
#include "scheduler/filters/host_port.h"
#include "scheduler/filters/max_replicas.h"
#include "scheduler/filters/overlay.h"
#include "scheduler/filters/platform.h"
#include "scheduler/filters/plugin.h"
#include "scheduler/filters/ready.h"
#include "scheduler/filters/resource.h"
#include "scheduler/filters/volumes.h"

namespace muster::scheduler {
namespace {

// More kinds of detail than this would not be read.
constexpr size_t kDetailsShown = 6;

void by_number(std::vector<std::pair<std::string, size_t>>& counted) {
  std::stable_sort(counted.begin(), counted.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
}

std::string joined(const std::vector<std::pair<std::string, size_t>>& parts) {
  std::string text;
  for (const auto& [part, number] : parts) {
    if (!text.empty()) text += "; ";
    text += part;
  }
  return text;
}

}  // namespace

std::string count_nodes(size_t nodes) {
  return nodes == 1 ? "1 node" : fmt::format("{} nodes", nodes);
}

Pipeline::Pipeline() {
  filters_.push_back(std::make_unique<ReadyFilter>());
  filters_.push_back(std::make_unique<ResourceFilter>());
  filters_.push_back(std::make_unique<PluginFilter>());
  filters_.push_back(std::make_unique<ConstraintFilter>());
  filters_.push_back(std::make_unique<PlatformFilter>());
  filters_.push_back(std::make_unique<HostPortFilter>());
  filters_.push_back(std::make_unique<MaxReplicasFilter>());
  filters_.push_back(std::make_unique<VolumesFilter>());
  filters_.push_back(std::make_unique<OverlayFilter>());
  filters_.push_back(std::make_unique<EncryptionFilter>());
}

void Pipeline::set_group(const TaskShape& shape, ClusterState& state) {
  active_.clear();
  for (const auto& filter : filters_) {
    if (filter->set_group(shape, state)) active_.push_back(filter.get());
  }
}

Pipeline::Explanation::Explanation(const Pipeline& pipeline)
    : pipeline_(pipeline), nodes_(pipeline.active_.size(), 0) {}

void Pipeline::Explanation::add(const Candidate& rejected) {
  const auto& active = pipeline_.active_;
  auto reason = std::find_if(active.begin(), active.end(),
                             [&](const Filter* filter) { return !filter->check(rejected); });
  if (reason == active.end()) return;
  ++nodes_[static_cast<size_t>(reason - active.begin())];
  for (std::string& detail : (*reason)->details(rejected)) {
    auto known = std::find_if(details_.begin(), details_.end(),
                              [&](const auto& d) { return d.first == detail; });
    if (known == details_.end()) {
      details_.emplace_back(std::move(detail), 1);
    } else {
      ++known->second;
    }
  }
}

std::string Pipeline::Explanation::text() const {
  std::vector<std::pair<std::string, size_t>> reasons;
  for (size_t i = 0; i < nodes_.size(); ++i) {
    if (nodes_[i] > 0) reasons.emplace_back(pipeline_.active_[i]->explain(nodes_[i]), nodes_[i]);
  }
  by_number(reasons);
  if (reasons.empty()) return "no suitable node";
  std::string text = "no suitable node (" + joined(reasons) + ")";

  auto details = details_;
  std::sort(details.begin(), details.end());  // whatever order the nodes came in
  by_number(details);
  if (details.size() > kDetailsShown) details.resize(kDetailsShown);
  for (auto& [detail, number] : details) detail += " on " + count_nodes(number);
  if (!details.empty()) text += ": " + joined(details);
  return text;
}

}  // namespace muster::scheduler
