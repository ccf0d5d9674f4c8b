#include "manager/allocator/holdings.h"

#include <algorithm>

namespace muster::manager::allocator {

Holdings holdings_of(const v1::Task& task) {
  Holdings h;
  if (task.status().state() >= v1::TASK_COMPLETE) return h;
  for (const auto* attachments : {&task.networks(), &task.left()}) {
    for (const auto& attachment : *attachments) {
      for (const auto& cidr : attachment.addresses()) {
        h.addresses.push_back({attachment.network_id(), cidr});
      }
    }
  }
  return h;
}

Holdings holdings_of(const v1::Service& service) {
  Holdings h;
  for (const auto& vip : service.endpoint().virtual_ips()) {
    h.addresses.push_back({vip.network_id(), vip.address()});
  }
  for (const auto& port : service.endpoint().ports()) {
    if (port.published_port() != 0) h.ports.push_back(port);
  }
  return h;
}

bool give_back(overlay::Ipam& ipam, const std::string& owner, const Holdings& before,
               const Holdings& after) {
  bool any = false;
  for (const auto& address : before.addresses) {
    if (std::find(after.addresses.begin(), after.addresses.end(), address) !=
        after.addresses.end()) {
      continue;
    }
    any = ipam.put_back_address(address.network_id, address.cidr) || any;
  }
  for (const auto& port : before.ports) {
    const bool kept = std::any_of(after.ports.begin(), after.ports.end(), [&](const auto& p) {
      return p.protocol() == port.protocol() && p.mode() == port.mode() &&
             p.published_port() == port.published_port() && p.bind() == port.bind();
    });
    if (!kept) any = ipam.ports().put_back(port, owner) || any;
  }
  return any;
}

std::vector<v1::PortConfig> given_ports(
    const v1::Endpoint& endpoint,
    const google::protobuf::RepeatedPtrField<v1::PortConfig>& wanted) {
  const int given = std::min(endpoint.spec().ports_size(), endpoint.ports_size());
  std::vector<bool> used(static_cast<size_t>(given), false);
  std::vector<v1::PortConfig> out(wanted.begin(), wanted.end());
  for (v1::PortConfig& port : out) {
    for (int i = 0; i < given; ++i) {
      const v1::PortConfig& asked = endpoint.spec().ports(i);
      const bool equal = asked.protocol() == port.protocol() && asked.mode() == port.mode() &&
                         asked.target_port() == port.target_port() && asked.name() == port.name() &&
                         asked.published_port() == port.published_port();
      if (!equal || used[static_cast<size_t>(i)]) continue;
      used[static_cast<size_t>(i)] = true;
      port.set_published_port(endpoint.ports(i).published_port());
      break;
    }
  }
  return out;
}

bool has_ingress_ports(const google::protobuf::RepeatedPtrField<v1::PortConfig>& ports) {
  return std::any_of(ports.begin(), ports.end(),
                     [](const v1::PortConfig& p) { return p.mode() == v1::PortConfig::INGRESS; });
}

}  // namespace muster::manager::allocator
