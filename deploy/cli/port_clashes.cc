#include "deploy/cli/port_clashes.h"

#include <fmt/format.h>

#include <algorithm>

#include "deploy/cli/listing.h"
#include "overlay/ipam/port_options.h"

namespace muster::deploy::cli {
namespace {

constexpr size_t kNodesShown = 5;

}  // namespace

std::vector<std::string> port_clashes(const v1::Service& service,
                                      const std::vector<v1::Node>& nodes) {
  std::vector<std::string> out;
  for (const v1::PortConfig& port : service.endpoint().ports()) {
    const std::string taken = overlay::taken_limitation(port);
    std::vector<std::string> names;
    for (const v1::Node& node : nodes) {
      const auto& said = node.description().limitations();
      if (node.status().state() == v1::NodeStatus::DOWN) continue;
      if (std::find(said.begin(), said.end(), taken) == said.end()) continue;
      names.push_back(node.description().hostname().empty() ? node.id()
                                                            : node.description().hostname());
    }
    if (names.empty()) continue;
    std::sort(names.begin(), names.end(), natural_less);
    std::string where;
    for (size_t i = 0; i < std::min(names.size(), kNodesShown); ++i) {
      where += (i == 0 ? "" : ", ") + names[i];
    }
    if (names.size() > kNodesShown)
      where += fmt::format(" and {} more", names.size() - kNodesShown);
    out.push_back(fmt::format("port {} is taken on {} by another program",
                              overlay::published_name(port), where));
  }
  return out;
}

}  // namespace muster::deploy::cli
