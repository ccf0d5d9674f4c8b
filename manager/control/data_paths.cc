#include "manager/control/data_paths.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "manager/store/ingress_network.h"

namespace muster::manager::control {
namespace {

// Of one sentence; the rest is counted.
constexpr size_t kNamesMax = 5;

const std::string& path_of(const v1::Node& node) {
  return node.description().data_path().address();
}

}  // namespace

DataPathFaults::DataPathFaults(const store::Snapshot& state, size_t mesh_nodes_max)
    : mesh_nodes_max_(mesh_nodes_max) {
  overlay::DataPathTally tally;
  uint32_t smallest = 0;
  state.each<v1::Node>([&](const store::Ptr<v1::Node>& node) {
    tally.add(*node);
    if (node->ingress().index() != 0) ++placed_;
    if (path_of(*node).empty()) return true;
    // A host that left and joined again has two entries; nobody is led to the one that is down.
    if (node->status().state() != v1::NodeStatus::DOWN)
      hosts_[path_of(*node)].push_back(node->id());
    const uint32_t mtu = node->description().data_path().mtu();
    if (mtu != 0 && (smallest == 0 || mtu < smallest)) {
      smallest = mtu;
      narrowest_ = node->description().hostname();
    }
    return true;
  });
  paths_ = tally.get();
  for (const auto& [address, ids] : hosts_) {
    if (ids.size() < 2) continue;
    for (const std::string& id : ids) {
      const auto node = state.get<v1::Node>(id);
      const std::string& name = node->description().hostname();
      names_[id] = name.empty() ? id : name;
    }
  }
  const auto ingress = store::ingress_network(state);
  if (ingress != nullptr && !ingress->state().pools().empty()) {
    ingress_ = ingress->spec().annotations().name();
  }
}

std::vector<std::string> DataPathFaults::of(const v1::Node& node) const {
  std::vector<std::string> out;
  const std::string& address = path_of(node);
  // A node that was never here has told nothing at all.
  if (address.empty() && !node.description().hostname().empty()) {
    out.push_back(
        "this node has told no data-path address: containers on other nodes do not reach those "
        "here by overlay networks");
  }
  const bool down = node.status().state() == v1::NodeStatus::DOWN;
  if (const auto known = hosts_.find(address);
      !down && known != hosts_.end() && known->second.size() > 1) {
    std::vector<std::string> others;
    for (const std::string& id : known->second) {
      if (id != node.id()) others.push_back(names_.at(id));
    }
    const size_t rest = others.size() - std::min(others.size(), kNamesMax);
    others.resize(others.size() - rest);
    out.push_back(fmt::format(
        "data-path address {} is that of node{} {}{}, too: what is sent to the one reaches the "
        "other",
        address, others.size() + rest > 1 ? "s" : "", fmt::join(others, ", "),
        rest == 0 ? "" : fmt::format(" and {} more", rest)));
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
  if (paths_.mtu == 0 || network.spec().driver() != "overlay") return {};
  const auto wanted = overlay::wanted_mtu(network.spec());
  const uint32_t carried = overlay::carried_mtu(network.spec(), paths_);
  if (!wanted || *wanted <= carried) return {};
  return {fmt::format(
      "MTU {} is more than the {} that every node's data path carries (that of node {} has an MTU "
      "of {}): larger packets are lost on the way to and from there",
      *wanted, carried, narrowest_, paths_.mtu)};
}

}  // namespace muster::manager::control
