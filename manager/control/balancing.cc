#include "manager/control/balancing.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace muster::manager::control {
namespace {

// Of one sentence; the rest is counted.
constexpr size_t kNamesMax = 5;

bool asks_for_least_connection(const v1::Service& service) {
  return service.spec().endpoint().balancing() == v1::EndpointSpec::LEAST_CONNECTION;
}

// A node that has told nothing of its balancer may have any.
bool counts_connections(const v1::Node& node) {
  return node.description().balancer().empty() || node.description().balancer() == "ipvs";
}

}  // namespace

BalancingLimits::BalancingLimits(const store::Snapshot& state) {
  state.each<v1::Service>([&](const store::Ptr<v1::Service>& service) {
    if (!asks_for_least_connection(*service)) return true;
    if (least_connection_.size() == kNamesMax) {
      ++more_;
    } else {
      least_connection_.push_back(service->spec().annotations().name());
    }
    return true;
  });
}

std::vector<std::string> BalancingLimits::of(const v1::Node& node) const {
  if (least_connection_.empty() || counts_connections(node)) return {};
  const bool several = least_connection_.size() + more_ > 1;
  return {fmt::format(
      "service{} {}{} ask{} for least-connection, which this node's balancer ({}) does not have: "
      "connections of containers here go round robin",
      several ? "s" : "", fmt::join(least_connection_, ", "),
      more_ == 0 ? "" : fmt::format(" and {} more", more_), several ? "" : "s",
      node.description().balancer())};
}

std::optional<std::string> balancing_warning(const store::Snapshot& state,
                                             const v1::Service& service) {
  if (!asks_for_least_connection(service)) return std::nullopt;
  size_t nodes = 0;
  std::string example;
  state.each<v1::Node>([&](const store::Ptr<v1::Node>& node) {
    if (counts_connections(*node)) return true;
    ++nodes;
    if (example.empty()) example = node->description().hostname();
    return true;
  });
  if (nodes == 0) return std::nullopt;
  return fmt::format(
      "least-connection is not available on {} node{} without IPVS ({}{}): connections from there "
      "go round robin",
      nodes, nodes == 1 ? "" : "s", example, nodes == 1 ? "" : ", ...");
}

}  // namespace muster::manager::control
