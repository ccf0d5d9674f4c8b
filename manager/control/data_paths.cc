#include "manager/control/data_paths.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "manager/store/ingress_network.h"

namespace muster::manager::control {
namespace {

// Of one sentence; the rest is counted.
constexpr size_t kNamesMax = 5;
constexpr uint32_t kMtuMinV6 = 1280;  // RFC 8200, 5

// One address has many texts in IPv6.
std::string path_of(const v1::Node& node) {
  const std::string& text = node.description().data_path().address();
  const auto address = overlay::Ip::parse(text);
  return address ? address->str() : text;
}

bool is_v6(const std::string& address) {
  return address.find(':') != std::string::npos;
}

bool is_down(const v1::Node& node) {
  return node.status().state() == v1::NodeStatus::DOWN;
}

const std::string& name_of(const v1::Node& node) {
  const std::string& name = node.description().hostname();
  return name.empty() ? node.id() : name;
}

// "a, b and 3 more" of so many.
std::string some_of(std::vector<std::string> names, size_t count) {
  names.resize(std::min(names.size(), kNamesMax));
  const size_t rest = count - names.size();
  return fmt::format("{}{}", fmt::join(names, ", "),
                     rest == 0 ? "" : fmt::format(" and {} more", rest));
}

// Whether the network's packets are larger than what such data paths carry in one piece.
bool is_too_wide(const v1::NetworkSpec& spec, uint32_t mtu, const overlay::DataPaths& paths) {
  return mtu > overlay::uncut_mtu(spec, paths);
}

}  // namespace

DataPathFaults::DataPathFaults(const store::Snapshot& state, size_t mesh_nodes_max)
    : mesh_nodes_max_(mesh_nodes_max) {
  overlay::DataPathTally tally;
  state.each<v1::Node>([&](const store::Ptr<v1::Node>& node) {
    tally.add(*node);
    if (node->ingress().index() != 0) ++placed_;
    const std::string path = path_of(*node);
    // A host that left and joined again has two entries; nobody is led to the one that is down.
    if (path.empty() || is_down(*node)) return true;
    hosts_[path].push_back(node->id());
    Family& family = families_[is_v6(path) ? 1 : 0];
    ++family.nodes;
    if (family.some.size() < kNamesMax) family.some.push_back(name_of(*node));
    return true;
  });
  paths_ = tally.get();
  for (const auto& [address, ids] : hosts_) {
    if (ids.size() < 2) continue;
    for (const std::string& id : ids) names_[id] = name_of(*state.get<v1::Node>(id));
  }
  const auto ingress = store::ingress_network(state);
  if (ingress != nullptr && !ingress->state().pools().empty()) {
    ingress_ = ingress->spec().annotations().name();
  }
  if (paths_.mtu == 0) return;
  state.each<v1::Network>([&](const store::Ptr<v1::Network>& network) {
    const uint32_t mtu = overlay::overlay_mtu(network->spec(), paths_);
    if (is_too_wide(network->spec(), mtu, paths_)) too_wide_.push_back(network);
    return true;
  });
  if (too_wide_.empty()) return;
  state.each<v1::Node>([&](const store::Ptr<v1::Node>& node) {
    if (node->description().data_path().mtu() == paths_.mtu) narrowest_ = name_of(*node);
    return narrowest_.empty();
  });
}

// Another node that has its address.
std::string DataPathFaults::twin_of(const v1::Node& node) const {
  const auto known = hosts_.find(path_of(node));
  if (is_down(node) || known == hosts_.end() || known->second.size() < 2) return {};
  std::vector<std::string> others;
  for (const std::string& id : known->second) {
    if (id != node.id()) others.push_back(names_.at(id));
  }
  const size_t count = others.size();
  return fmt::format(
      "data-path address {} is that of node{} {}, too: what is sent to the one reaches the other; "
      "{} to leave and join again with another (--data-path-addr of swarm join)",
      known->first, count > 1 ? "s" : "", some_of(std::move(others), count),
      count > 1 ? "all but one have" : "one has");
}

// Nothing is sent from an address of one family to one of the other. Those that are fewer are told;
// of two halves, both.
std::string DataPathFaults::foreign(const v1::Node& node) const {
  const std::string path = path_of(node);
  if (path.empty() || is_down(node)) return {};
  const bool v6 = is_v6(path);
  const Family& others = families_[v6 ? 0 : 1];
  if (others.nodes == 0 || families_[v6 ? 1 : 0].nodes > others.nodes) return {};
  return fmt::format(
      "data-path address {} is of {}, that of node{} {} of {}: containers here and there do not "
      "reach each other, nor do ports published here lead there; all nodes need one of the same "
      "family (--data-path-addr of swarm init and swarm join)",
      path, v6 ? "IPv6" : "IPv4", others.nodes > 1 ? "s" : "", some_of(others.some, others.nodes),
      v6 ? "IPv4" : "IPv6");
}

// Networks whose packets do not fit into its data path.
std::string DataPathFaults::narrow(const v1::Node& node) const {
  const uint32_t mtu = node.description().data_path().mtu();
  if (mtu == 0 || too_wide_.empty()) return {};
  const auto [at, made] = narrow_.try_emplace(mtu);
  if (made) at->second = say_narrow(mtu);
  return at->second;
}

std::string DataPathFaults::say_narrow(uint32_t mtu) const {
  std::vector<std::string> names;
  for (const auto& network : too_wide_) {
    const uint32_t has = overlay::overlay_mtu(network->spec(), paths_);
    if (!is_too_wide(network->spec(), has, {mtu, paths_.v6})) continue;
    names.push_back(fmt::format("{} ({})", network->spec().annotations().name(), has));
  }
  if (names.empty()) return {};
  const size_t count = names.size();
  return fmt::format(
      "its data path, with an MTU of {}, does not carry what network{} {} may send: larger packets "
      "are cut to pieces or lost on the way to and from here",
      mtu, count > 1 ? "s" : "", some_of(std::move(names), count));
}

std::vector<std::string> DataPathFaults::of(const v1::Node& node) const {
  std::vector<std::string> out;
  // A node that was never here has told nothing at all.
  if (path_of(node).empty() && !node.description().hostname().empty()) {
    out.push_back(
        "this node has told no data-path address: containers on other nodes do not reach those "
        "here by overlay networks");
  }
  for (const std::string& text : {twin_of(node), foreign(node), narrow(node)}) {
    if (!text.empty()) out.push_back(text);
  }
  if (!ingress_.empty() && node.ingress().addresses().empty()) {
    const bool crowded = node.ingress().index() == 0 && placed_ >= mesh_nodes_max_;
    out.push_back(fmt::format(
        "{}: ports published in ingress mode do not answer here",
        crowded ? fmt::format("the routing mesh is full, it has {} nodes", mesh_nodes_max_)
                : fmt::format("no address of network {} was free for this node", ingress_)));
  }
  return out;
}

std::vector<std::string> DataPathFaults::of(const v1::Network& network) const {
  if (paths_.mtu == 0) return {};
  const uint32_t mtu = overlay::overlay_mtu(network.spec(), paths_);
  if (!is_too_wide(network.spec(), mtu, paths_)) return {};
  const auto wanted = overlay::wanted_mtu(network.spec());
  const bool asked_for = wanted && *wanted != 0;
  return {fmt::format(
      "MTU {}{} is more than the {} that every node's data path carries (that of node {} has an "
      "MTU of {}): larger packets are {} on the way to and from there",
      mtu,
      asked_for         ? ""
      : mtu < kMtuMinV6 ? ", the least of IP,"
                        : ", the least of IPv6,",
      overlay::uncut_mtu(network.spec(), paths_), narrowest_, paths_.mtu,
      asked_for ? "lost" : "cut to pieces or lost")};
}

}  // namespace muster::manager::control
