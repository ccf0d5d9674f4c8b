#include "scheduler/filters/plugin.h"

#include <fmt/format.h>

#include <algorithm>

namespace muster::scheduler {
namespace {

constexpr const char* kVolume = "Volume";
constexpr const char* kLog = "Log";

bool has_plugin(const NodeInfo& node, const std::string& type, const std::string& name) {
  const auto& plugins = node.plugins;
  auto first = std::lower_bound(plugins.begin(), plugins.end(), std::pair(type, std::string()));
  if (first == plugins.end() || first->first != type) return true;  // reports none of the type
  return std::binary_search(first, plugins.end(), std::pair(type, name));
}

}  // namespace

bool PluginFilter::set_group(const TaskShape& shape, ClusterState&) {
  shape_ = &shape;
  return !shape.volume_drivers.empty() || !shape.log_driver.empty();
}

bool PluginFilter::check(const Candidate& candidate) const {
  for (const std::string& driver : shape_->volume_drivers) {
    if (!has_plugin(candidate.node, kVolume, driver)) return false;
  }
  return shape_->log_driver.empty() || has_plugin(candidate.node, kLog, shape_->log_driver);
}

std::string PluginFilter::why(const Candidate& candidate) const {
  return fmt::format("{}", fmt::join(details(candidate), "; "));
}

std::string PluginFilter::explain(size_t nodes) const {
  return "missing plugin on " + count_nodes(nodes);
}

std::vector<std::string> PluginFilter::details(const Candidate& candidate) const {
  std::vector<std::string> missing;
  for (const std::string& driver : shape_->volume_drivers) {
    if (!has_plugin(candidate.node, kVolume, driver)) {
      missing.push_back("missing volume driver " + driver);
    }
  }
  if (!shape_->log_driver.empty() && !has_plugin(candidate.node, kLog, shape_->log_driver)) {
    missing.push_back("missing log driver " + shape_->log_driver);
  }
  return missing;
}

}  // namespace muster::scheduler
