#pragma once

#include <cstdint>

#include "overlay/dataplane/kernel/netlink.h"
#include "overlay/ipam/ip.h"

namespace muster::overlay::testing {

// Requests that make entries of the connection table, as traffic would.

void put_tuple(Message& m, int which, const Ip& from, uint16_t from_port, const Ip& to,
               uint16_t to_port, uint8_t protocol);

// A published port's connection: a client of port 80 was led to a server's 8080.
struct LedConnection {
  Ip server;
  uint16_t client_port;
  uint8_t protocol;
  uint8_t state;  // the protocol's, of connection tracking
  bool answered;
  uint32_t expires_in_s = 600;
};
Ip led_client(bool v6);
Ip led_asked(bool v6);

Message led_connection(const LedConnection& led);

}  // namespace muster::overlay::testing
