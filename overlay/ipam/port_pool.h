#pragma once

#include <compare>
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
// service in the whole cluster, unless they are bound to different places of the nodes. A host-mode
// port may be shared by services (the scheduler keeps their tasks on different nodes) but not with
// an ingress port. Ports that name no number get one
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
  struct Holder {
    std::string bind;  // PortConfig.bind
    bool ingress = false;
    std::string owner;

    friend auto operator<=>(const Holder&, const Holder&) = default;
  };
  using Key = std::pair<int, uint32_t>;  // protocol, port

  static Holder holder(const v1::PortConfig& port, const std::string& owner);
  Status take_numbered(const v1::PortConfig& port, const std::string& owner);

  std::map<Key, std::set<Holder>> ports_;
  std::map<int, uint32_t> next_;
};

}  // namespace muster::overlay
