#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "muster/v1/objects.pb.h"
#include "overlay/ipam/ipam.h"

namespace muster::manager::allocator {

// What an object has of the address space. Worked out from the stored object alone, so that what a
// commit gives back is the difference between before and after.
struct Holdings {
  struct Address {
    std::string network_id;
    std::string cidr;
    friend bool operator==(const Address&, const Address&) = default;
  };
  std::vector<Address> addresses;
  std::vector<v1::PortConfig> ports;
};

// A task that has not ended, with its addresses; also with those that it has left and its node may
// still have.
Holdings holdings_of(const v1::Task& task);
Holdings holdings_of(const v1::Service& service);

// Gives back what is in `before` and not in `after`. True when there was anything.
bool give_back(overlay::Ipam& ipam, const std::string& owner, const Holdings& before,
               const Holdings& after);

// The ports of an endpoint lie in the order of the spec they were given for. This finds, for each
// of `wanted`, what the endpoint was given for an equal entry; an entry that left the number to us
// and finds nothing stays without.
std::vector<v1::PortConfig> given_ports(
    const v1::Endpoint& endpoint, const google::protobuf::RepeatedPtrField<v1::PortConfig>& wanted);
bool has_ingress_ports(const google::protobuf::RepeatedPtrField<v1::PortConfig>& ports);

}  // namespace muster::manager::allocator
