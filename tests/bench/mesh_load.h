#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"

namespace muster::bench {

// What TCP does between two network namespaces: one thread in each, blocking sockets.
struct LoadPath {
  int client_ns = -1;  // open descriptors of the namespaces
  int server_ns = -1;
  std::string address;  // IPv4, as the client dials it
  uint16_t port = 0;    // as the client dials it
  uint16_t listen = 0;  // as the server listens, on all addresses
};

// One connection that carries as much as it can for `seconds`; in Gbit/s, as received.
Result<double> throughput(const LoadPath& path, double seconds);

struct Connections {
  double per_s = 0;
  // From connect() to the server's one byte; microseconds, sorted.
  std::vector<double> us;
};
// One connection after another for `seconds`, each answered by a byte and reset by the client, so
// that neither side keeps it.
Result<Connections> connections(const LoadPath& path, double seconds);

}  // namespace muster::bench
