#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "manager/store/ingress_network.h"
#include "muster/v1/objects.pb.h"
#include "overlay/ipam/ipam.h"
#include "overlay/ipam/serial_set.h"

namespace muster::manager::allocator {

// The nodes' places in the routing mesh: an index and addresses of the ingress network. Every node
// has one, since connections come in by all of them. An index is the lowest that is free and stays
// with its node, whatever becomes of the ingress network. Holds no truth of its own, like Ipam.
class IngressPlaces {
 public:
  static constexpr uint32_t kIndexMax = store::kMeshNodesMax;

  // Registers what is stored. Addresses that are not of this network, or somebody else's, are left
  // out: the node needs others. ALREADY_EXISTS when the index is another node's.
  Status restore(overlay::Ipam& ipam, std::string_view network_id, const v1::Node& node);
  // Whether the node holds a whole place.
  bool holds(std::string_view node_id) const;
  // A place for a node that holds none. RESOURCE_EXHAUSTED in words.
  Result<v1::NodeIngress> take(overlay::Ipam& ipam, const std::string& network_id,
                               const std::string& node_id);
  // Undoes take(): the index stays if the node had it before.
  void undo(overlay::Ipam& ipam, const std::string& node_id, bool had_index);
  bool has_index(std::string_view node_id) const { return places_.contains(node_id); }
  size_t size() const { return places_.size(); }
  // The node is no member any more. True when there was anything.
  bool put_back(overlay::Ipam& ipam, const std::string& node_id);
  // The ingress network is gone, and all addresses with it.
  void forget_addresses();

 private:
  struct Place {
    uint32_t index = 0;
    std::string network_id;  // of the addresses
    std::vector<std::string> addresses;
  };

  std::map<std::string, Place, std::less<>> places_;  // by node id
  overlay::SerialSet indexes_{kIndexMax + 1};
};

}  // namespace muster::manager::allocator
