#include "manager/store/ingress_network.h"

namespace muster::manager::store {

Ptr<v1::Network> ingress_network(const Snapshot& view) {
  // The usual name first: there may be many networks.
  Ptr<v1::Network> found = view.find<v1::Network>("ingress");
  if (found != nullptr && found->spec().ingress()) return found;
  found = nullptr;
  view.each<v1::Network>([&](const Ptr<v1::Network>& network) {
    if (network->spec().ingress()) found = network;
    return found == nullptr;
  });
  return found;
}

}  // namespace muster::manager::store
