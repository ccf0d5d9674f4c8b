#include "manager/store/ingress_network.h"

#include "manager/store/state.h"

namespace muster::manager::store {

Ptr<v1::Network> ingress_network(const Snapshot& view) {
  Ptr<v1::Network> found;
  view.state()->ingress_networks.visit_all([&](const auto& entry) {
    found = share(entry.value);
    return false;
  });
  return found;
}

}  // namespace muster::manager::store
