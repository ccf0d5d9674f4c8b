#pragma once

#include <cstdint>

#include "overlay/dataplane/kernel/netlink.h"

namespace muster::overlay::testing {

// Requests that make entries of the connection table, as traffic would.

void put_tuple(Message& m, int which, uint32_t from, uint16_t from_port, uint32_t to,
               uint16_t to_port, uint8_t protocol);

constexpr uint32_t kLedClient = 0x0a010001;  // 10.1.0.1
constexpr uint32_t kLedAsked = 0x0a020001;   // 10.2.0.1

// A published port's connection: a client of port 80 was led to a server's 8080.
struct LedConnection {
  uint32_t server;
  uint16_t client_port;
  uint8_t protocol;
  uint8_t state;  // the protocol's, of connection tracking
  bool answered;
};

Message led_connection(const LedConnection& led);

}  // namespace muster::overlay::testing
