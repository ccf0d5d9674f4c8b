#include "deploy/cli/port_clashes.h"

#include <fmt/format.h>

#include <algorithm>

#include "deploy/cli/listing.h"
#include "overlay/ipam/port_options.h"

namespace muster::deploy::cli {
namespace {

constexpr size_t kNodesShown = 5;

// "a, b and 2 more" of those that say so; empty: none does.
std::string who_says(const std::string& limitation, const std::vector<v1::Node>& nodes) {
  std::vector<std::string> names;
  for (const v1::Node& node : nodes) {
    const auto& said = node.description().limitations();
    if (node.status().state() == v1::NodeStatus::DOWN) continue;
    if (std::find(said.begin(), said.end(), limitation) == said.end()) continue;
    names.push_back(node.description().hostname().empty() ? node.id()
                                                          : node.description().hostname());
  }
  std::sort(names.begin(), names.end(), natural_less);
  std::string out;
  for (size_t i = 0; i < std::min(names.size(), kNodesShown); ++i) {
    out += (i == 0 ? "" : ", ") + names[i];
  }
  if (names.size() > kNodesShown) out += fmt::format(" and {} more", names.size() - kNodesShown);
  return out;
}

}  // namespace

std::vector<std::string> port_clashes(const v1::Service& service,
                                      const std::vector<v1::Node>& nodes) {
  std::vector<std::string> out;
  for (const v1::PortConfig& port : service.endpoint().ports()) {
    const std::string name = overlay::published_name(port);
    const std::string hint =
        fmt::format(" (`ss -lntup sport = :{}` there tells which)", port.published_port());
    const std::string everywhere = who_says(overlay::taken_limitation(port), nodes);
    if (!everywhere.empty()) {
      out.push_back(
          fmt::format("port {} is taken on {} by another program{}", name, everywhere, hint));
    }
    const std::string loopback = who_says(overlay::taken_at_loopback_limitation(port), nodes);
    if (!loopback.empty()) {
      out.push_back(fmt::format(
          "port {} is taken on {} by another program at ::1, and answers everywhere else{}", name,
          loopback, hint));
    }
  }
  return out;
}

}  // namespace muster::deploy::cli
