#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "base/status.h"
#include "muster/v1/specs.pb.h"

namespace muster::overlay {

// "tcp", "udp" or "sctp".
std::string_view protocol_name(v1::PortConfig::Protocol protocol);

// The published ports of the cluster, one space per protocol. An ingress port belongs to one
// service in the whole cluster. A host-mode port may be shared by services (the scheduler keeps
// their tasks on different nodes) but not with an ingress port. Ports that name no number get one
// of 30000-32767, serially.
class PortPool {
 public:
  static constexpr uint32_t kDynamicFirst = 30000;
  static constexpr uint32_t kDynamicLast = 32767;

  // Takes the port for `owner`, filling in published_port of an ingress port that has none. Taking
  // what the owner holds already is fine. A host-mode port without a number is left alone: the node
  // picks it. ALREADY_EXISTS, INVALID_ARGUMENT (number out of range), RESOURCE_EXHAUSTED.
  Status take(v1::PortConfig& port, const std::string& owner);
  // False when the owner did not hold it.
  bool put_back(const v1::PortConfig& port, const std::string& owner);
  bool holds(const v1::PortConfig& port, const std::string& owner) const;

 private:
  struct Holders {
    std::string ingress;  // empty = none
    std::set<std::string> host;
  };
  using Key = std::pair<int, uint32_t>;  // protocol, port

  Status take_numbered(const v1::PortConfig& port, const std::string& owner);

  std::map<Key, Holders> ports_;
  std::map<int, uint32_t> next_;
};

}  // namespace muster::overlay
