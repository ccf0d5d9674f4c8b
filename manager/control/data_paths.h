#pragma once

#include <map>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "manager/control/balancing.h"
#include "manager/control/overlaps.h"
#include "manager/store/ingress_network.h"
#include "manager/store/store.h"
#include "overlay/ipam/mtu.h"
#include "overlay/ipam/network_options.h"

namespace muster::manager::control {

// What is wrong with the ways between nodes: data-path addresses that are missing, given twice, or
// of another family than those of the others; nodes without a place in the routing mesh; networks
// whose MTU not every way carries in one piece. Worked out when somebody reads. Pure.
class DataPathFaults {
 public:
  // `mesh_nodes_max`: as many nodes have a place in the routing mesh.
  explicit DataPathFaults(const store::Snapshot& state,
                          size_t mesh_nodes_max = store::kMeshNodesMax);

  std::vector<std::string> of(const v1::Node& node) const;
  std::vector<std::string> of(const v1::Network& network) const;

 private:
  // Of nodes whose data path is of this family, and which are not down.
  struct Family {
    size_t nodes = 0;
    std::vector<std::string> some;  // their names, a few
  };

  std::string twin_of(const v1::Node& node) const;
  std::string foreign(const v1::Node& node) const;
  std::string narrow(const v1::Node& node) const;
  std::string say_narrow(uint32_t mtu) const;

  std::map<std::string, std::vector<std::string>> hosts_;  // ids of nodes by data-path address
  std::map<std::string, std::string> names_;               // of nodes that share one, by id
  overlay::DataPaths paths_;
  Family families_[2];                             // of IPv4, of IPv6
  std::vector<store::Ptr<v1::Network>> too_wide_;  // more than the narrowest data path carries
  // What narrow() has said, by MTU: there are many nodes and networks, but few MTUs.
  mutable std::map<uint32_t, std::string> narrow_;
  std::string narrowest_;  // the hostname of a node with the smallest MTU
  std::string ingress_;    // name of the ingress network, once it has addresses
  size_t placed_ = 0;      // nodes that hold one of the mesh's indexes
  size_t mesh_nodes_max_;
};

// All that is to be said of an object beside what it is.
class Warnings {
 public:
  explicit Warnings(const store::Snapshot& state)
      : overlaps_(state), data_paths_(state), balancing_(state) {}

  template <class T>
  void add_to(T& object) const {
    for (std::string& warning : overlaps_.of(object)) object.add_warnings(std::move(warning));
    for (std::string& warning : data_paths_.of(object)) object.add_warnings(std::move(warning));
    for (std::string& warning : balancing_.of(object)) object.add_warnings(std::move(warning));
    if constexpr (std::is_same_v<T, v1::Network>) {
      for (std::string& warning : overlay::idle_options(object.spec())) {
        object.add_warnings(std::move(warning));
      }
    }
  }

 private:
  Overlaps overlaps_;
  DataPathFaults data_paths_;
  BalancingLimits balancing_;
};

}  // namespace muster::manager::control
