#include "scheduler/filters/host_port.h"

#include <fmt/format.h>

#include <algorithm>

namespace muster::scheduler {

bool HostPortFilter::set_group(const TaskShape& shape, ClusterState&) {
  shape_ = &shape;
  return !shape.host_ports.empty();
}

bool HostPortFilter::check(const Candidate& candidate) const {
  return std::none_of(shape_->host_ports.begin(), shape_->host_ports.end(),
                      [&](HostPort port) { return candidate.node.port_used(port); });
}

std::string HostPortFilter::why(const Candidate& candidate) const {
  return fmt::format("{}", fmt::join(details(candidate), "; "));
}

std::string HostPortFilter::explain(size_t nodes) const {
  return "host-mode port already in use on " + count_nodes(nodes);
}

std::vector<std::string> HostPortFilter::details(const Candidate& candidate) const {
  std::vector<std::string> used;
  for (HostPort port : shape_->host_ports) {
    if (candidate.node.port_used(port)) used.push_back("port " + to_string(port) + " in use");
  }
  return used;
}

}  // namespace muster::scheduler
