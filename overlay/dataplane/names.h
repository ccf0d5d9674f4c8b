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
  bool is_our_bridge(std::string_view link) const { return link.starts_with(bridge_prefix_); }
  bool is_our_veth(std::string_view link) const { return link.starts_with(veth_prefix_); }

 private:
  std::string instance_;
  std::string table_;
  std::string bridge_prefix_;
  std::string veth_prefix_;
  std::string mesh_;
};

}  // namespace muster::overlay
