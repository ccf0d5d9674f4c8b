#include "manager/control/overlaps.h"

#include <fmt/format.h>

#include <utility>

namespace muster::manager::control {
namespace {

using overlay::Prefix;
using overlay::RangeSet;

std::vector<Prefix> subnets_of(const v1::Network& network) {
  const bool given = network.state().pools_size() != 0;
  std::vector<Prefix> out;
  for (const auto& pool : given ? network.state().pools() : network.spec().pools()) {
    if (const auto subnet = Prefix::parse(pool.subnet())) out.push_back(*subnet);
  }
  return out;
}

std::vector<Prefix> ranges_of(const v1::Node& node) {
  std::vector<Prefix> out;
  for (const auto& text : node.description().local_ranges()) {
    if (const auto range = Prefix::parse(text)) out.push_back(*range);
  }
  return out;
}

std::vector<std::string> bounded(std::vector<std::string> warnings) {
  if (warnings.size() <= Overlaps::kWarningsMax) return warnings;
  const size_t rest = warnings.size() - (Overlaps::kWarningsMax - 1);
  warnings.resize(Overlaps::kWarningsMax - 1);
  warnings.push_back(fmt::format("and {} more overlaps of this kind", rest));
  return warnings;
}

}  // namespace

Overlaps::Overlaps(const store::Snapshot& state) : state_(state) {
  std::vector<Prefix> all;
  state.each<v1::Network>([&](const store::Ptr<v1::Network>& network) {
    for (const Prefix& subnet : subnets_of(*network)) {
      all.push_back(subnet);
      networks_.emplace(subnet.base, network->spec().annotations().name());
    }
    return true;
  });
  subnets_ = RangeSet(std::move(all));
}

std::vector<std::string> Overlaps::of(const v1::Node& node) const {
  std::vector<std::string> out;
  for (const Prefix& range : ranges_of(node)) {
    subnets_.each_overlap(range, [&](const Prefix& subnet) {
      out.push_back(
          fmt::format("{}, which this node reaches by itself, overlaps subnet {} of network {}",
                      range.str(), subnet.str(), networks_.at(subnet.base)));
    });
  }
  return bounded(std::move(out));
}

std::vector<std::string> Overlaps::of(const v1::Network& network) const {
  std::vector<std::string> out;
  const RangeSet subnets(subnets_of(network));
  state_.each<v1::Node>([&](const store::Ptr<v1::Node>& node) {
    for (const Prefix& range : ranges_of(*node)) {
      subnets.each_overlap(range, [&](const Prefix& subnet) {
        out.push_back(fmt::format("subnet {} overlaps {}, which node {} reaches by itself",
                                  subnet.str(), range.str(), node->description().hostname()));
      });
    }
    return true;
  });
  return bounded(std::move(out));
}

}  // namespace muster::manager::control
