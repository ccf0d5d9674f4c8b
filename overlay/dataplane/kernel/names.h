#pragma once

#include <string>
#include <string_view>

namespace muster::overlay {

// What this instance calls its things in the kernel. Interface names have 15 bytes at most, so they
// are made of hashes: five characters for the instance (one in 60 million that two instances meet),
// eight for the thing. All are base 36.
class Names {
 public:
  explicit Names(std::string_view instance_id);

  const std::string& instance() const { return instance_; }
  // "muster_<instance>", with everything nftables would not take in a name replaced by "_".
  const std::string& table() const { return table_; }
  // "mb<instance hash><network hash>"
  std::string bridge(std::string_view network_id) const;
  // The host's end of a container's interface number `index`: "mv<instance hash><hash>".
  std::string veth(std::string_view container_id, size_t index) const;
  // The node's own interface in the ingress network, "mi<instance hash>"; both of its ends.
  const std::string& mesh() const { return mesh_; }
  // What leads containers to this node: "mg<instance hash>" holds the subnets' routes, and
  // "mg<instance hash><hash>" is the host's end of a container's way out, or
  // "mp<instance hash><hash>" of one that ports of the host lead to, but nothing out of.
  const std::string& gateway_bridge() const { return gateway_bridge_; }
  std::string way_out(std::string_view container_id) const;
  std::string way_in(std::string_view container_id) const;
  // What matches the latter two as an interface name in nftables.
  std::string ways_out() const { return gateway_bridge_ + "*"; }
  std::string ways_in() const { return way_in_prefix_ + "*"; }
  // A way out or in, but not the bridge.
  bool is_our_way(std::string_view link) const {
    return link != gateway_bridge_ &&
           (link.starts_with(gateway_bridge_) || link.starts_with(way_in_prefix_));
  }
  bool is_our_bridge(std::string_view link) const { return link.starts_with(bridge_prefix_); }
  bool is_our_veth(std::string_view link) const { return link.starts_with(veth_prefix_); }

 private:
  std::string instance_;
  std::string table_;
  std::string bridge_prefix_;
  std::string veth_prefix_;
  std::string gateway_bridge_;
  std::string way_in_prefix_;
  std::string mesh_;
};

}  // namespace muster::overlay
