#include "manager/allocator/ingress_places.h"

#include <utility>

namespace muster::manager::allocator {

Status IngressPlaces::restore(overlay::Ipam& ipam, std::string_view network_id,
                              const v1::Node& node) {
  const v1::NodeIngress& stored = node.ingress();
  if (stored.index() == 0) return ok_status();
  if (!indexes_.take(stored.index())) {
    return already_exists("index {} of the routing mesh is another node's", stored.index());
  }
  Place& place = places_[node.id()];
  place.index = stored.index();
  if (stored.addresses().empty()) return ok_status();
  Place held{stored.index(), std::string(network_id), {}};
  for (const std::string& cidr : stored.addresses()) {
    if (!ipam.restore_address(network_id, cidr).ok()) {
      for (const std::string& mine : held.addresses) ipam.put_back_address(network_id, mine);
      return ok_status();
    }
    held.addresses.push_back(cidr);
  }
  place = std::move(held);
  return ok_status();
}

bool IngressPlaces::holds(std::string_view node_id) const {
  const auto at = places_.find(node_id);
  return at != places_.end() && !at->second.addresses.empty();
}

Result<v1::NodeIngress> IngressPlaces::take(overlay::Ipam& ipam, const std::string& network_id,
                                            const std::string& node_id) {
  MUSTER_ASSIGN(auto addresses, ipam.take_addresses(network_id));
  const bool had_index = has_index(node_id);
  Place& place = places_[node_id];
  if (!had_index) {
    indexes_.set_cursor(1);  // the lowest, not the next
    const auto index = indexes_.take_next(1, kIndexMax + 1);
    if (!index) {
      places_.erase(node_id);
      for (const std::string& cidr : addresses) ipam.put_back_address(network_id, cidr);
      return fail(resource_exhausted("the routing mesh is full: it has {} nodes", kIndexMax));
    }
    place.index = static_cast<uint32_t>(*index);
  }
  place.network_id = network_id;
  place.addresses = std::move(addresses);
  v1::NodeIngress out;
  out.set_index(place.index);
  for (const std::string& cidr : place.addresses) out.add_addresses(cidr);
  if (const auto first = overlay::Cidr::parse(place.addresses.front())) {
    out.set_mac(overlay::mac_of(first->ip));
  }
  return out;
}

void IngressPlaces::undo(overlay::Ipam& ipam, const std::string& node_id, bool had_index) {
  const auto at = places_.find(node_id);
  if (at == places_.end()) return;
  if (!had_index) {
    put_back(ipam, node_id);
    return;
  }
  for (const std::string& cidr : at->second.addresses) {
    ipam.put_back_address(at->second.network_id, cidr);
  }
  at->second.addresses.clear();
}

bool IngressPlaces::put_back(overlay::Ipam& ipam, const std::string& node_id) {
  const auto at = places_.find(node_id);
  if (at == places_.end()) return false;
  for (const std::string& cidr : at->second.addresses) {
    ipam.put_back_address(at->second.network_id, cidr);
  }
  indexes_.put_back(at->second.index);
  places_.erase(at);
  return true;
}

void IngressPlaces::forget_addresses() {
  for (auto& [node_id, place] : places_) place.addresses.clear();
}

}  // namespace muster::manager::allocator
