#include "overlay/ipam/port_pool.h"

#include "overlay/ipam/port_options.h"

namespace muster::overlay {

std::string_view protocol_name(v1::PortConfig::Protocol protocol) {
  switch (protocol) {
    case v1::PortConfig::UDP: return "udp";
    case v1::PortConfig::SCTP: return "sctp";
    default: return "tcp";
  }
}

PortPool::Holder PortPool::holder(const v1::PortConfig& port, const std::string& owner) {
  return {port.bind(), port.mode() == v1::PortConfig::INGRESS, owner};
}

Status PortPool::take_numbered(const v1::PortConfig& port, const std::string& owner) {
  const uint32_t number = port.published_port();
  if (number > 65535) return invalid_argument("port {} is above 65535", number);
  const Key key{port.protocol(), number};
  const Holder wanted = holder(port, owner);
  if (const auto it = ports_.find(key); it != ports_.end()) {
    for (const Holder& held : it->second) {
      if (!binds_overlap(held.bind, wanted.bind)) continue;
      const bool shared =
          held.ingress == wanted.ingress && (!held.ingress || held.owner == wanted.owner);
      if (shared) continue;
      return already_exists("port {}/{} is already in use by service {} as {} port", number,
                            protocol_name(port.protocol()), held.owner,
                            held.ingress ? "an ingress" : "a host-mode");
    }
  }
  ports_[key].insert(wanted);
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
  return it != ports_.end() && it->second.contains(holder(port, owner));
}

bool PortPool::put_back(const v1::PortConfig& port, const std::string& owner) {
  const auto it = ports_.find({port.protocol(), port.published_port()});
  if (it == ports_.end() || it->second.erase(holder(port, owner)) == 0) return false;
  if (it->second.empty()) ports_.erase(it);
  return true;
}

}  // namespace muster::overlay
