#pragma once

#include <compare>
#include <cstdint>
#include <string>

#include "overlay/ipam/ip.h"

namespace muster::overlay::dns {

// One end of a connection.
struct SocketAddress {
  Ip ip;
  uint16_t port = 0;

  friend auto operator<=>(const SocketAddress&, const SocketAddress&) = default;
};

// What is sent before the first byte of a connection, so that the server knows between whom it is:
// version 1 (text) or 2 (binary) of the PROXY protocol, as HAProxy's proxy-protocol.txt lays it
// down. Ends of different families are said to be unknown. Empty for any other version. Pure.
std::string proxy_header(uint32_t version, const SocketAddress& client,
                         const SocketAddress& destination);

}  // namespace muster::overlay::dns
