#include "overlay/ipam/port_pool.h"

namespace muster::overlay {

std::string_view protocol_name(v1::PortConfig::Protocol protocol) {
  switch (protocol) {
    case v1::PortConfig::UDP: return "udp";
    case v1::PortConfig::SCTP: return "sctp";
    default: return "tcp";
  }
}

Status PortPool::take_numbered(const v1::PortConfig& port, const std::string& owner) {
  const uint32_t number = port.published_port();
  if (number > 65535) return invalid_argument("port {} is above 65535", number);
  const Key key{port.protocol(), number};
  const auto it = ports_.find(key);
  const bool ingress = port.mode() == v1::PortConfig::INGRESS;
  if (it != ports_.end()) {
    const Holders& holders = it->second;
    const std::string name = fmt::format("{}/{}", number, protocol_name(port.protocol()));
    if (!holders.ingress.empty() && (holders.ingress != owner || !ingress)) {
      return already_exists("port {} is already in use by service {} as an ingress port", name,
                            holders.ingress);
    }
    if (ingress && !holders.host.empty()) {
      return already_exists("port {} is already in use by service {} as a host-mode port", name,
                            *holders.host.begin());
    }
  }
  Holders& holders = ports_[key];
  if (ingress) {
    holders.ingress = owner;
  } else {
    holders.host.insert(owner);
  }
  return ok_status();
}

Status PortPool::take(v1::PortConfig& port, const std::string& owner) {
  if (port.published_port() != 0) return take_numbered(port, owner);
  if (port.mode() == v1::PortConfig::HOST) return ok_status();
  uint32_t& next = next_.try_emplace(port.protocol(), kDynamicFirst).first->second;
  const uint32_t count = kDynamicLast - kDynamicFirst + 1;
  for (uint32_t tried = 0; tried < count; ++tried) {
    const uint32_t number = kDynamicFirst + (next - kDynamicFirst + tried) % count;
    if (ports_.count({port.protocol(), number}) != 0) continue;
    port.set_published_port(number);
    next = number == kDynamicLast ? kDynamicFirst : number + 1;
    return take_numbered(port, owner);
  }
  return resource_exhausted("no {} port is free between {} and {}", protocol_name(port.protocol()),
                            kDynamicFirst, kDynamicLast);
}

bool PortPool::holds(const v1::PortConfig& port, const std::string& owner) const {
  const auto it = ports_.find({port.protocol(), port.published_port()});
  if (it == ports_.end()) return false;
  return port.mode() == v1::PortConfig::INGRESS ? it->second.ingress == owner
                                                : it->second.host.count(owner) != 0;
}

bool PortPool::put_back(const v1::PortConfig& port, const std::string& owner) {
  if (!holds(port, owner)) return false;
  const auto it = ports_.find({port.protocol(), port.published_port()});
  if (port.mode() == v1::PortConfig::INGRESS) {
    it->second.ingress.clear();
  } else {
    it->second.host.erase(owner);
  }
  if (it->second.ingress.empty() && it->second.host.empty()) ports_.erase(it);
  return true;
}

}  // namespace muster::overlay
