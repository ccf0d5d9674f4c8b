#pragma once

#include <cstddef>
#include <cstdint>
#include <map>

#include "base/status.h"
#include "muster/v1/objects.pb.h"

namespace muster::overlay {

// What the data paths of all nodes have in common.
struct DataPaths {
  uint32_t mtu = 0;  // the smallest that is known; 0 = none is
  bool v6 = false;   // there is one over IPv6, whose header is larger

  friend bool operator==(const DataPaths&, const DataPaths&) = default;
};

// Counts the data paths of nodes, so that what they have in common follows from one change in
// O(log n). Nodes that are down count: they come back. Pure.
class DataPathTally {
 public:
  void add(const v1::Node& node);
  // To be called with what add() got.
  void remove(const v1::Node& node);
  DataPaths get() const;

 private:
  std::map<uint32_t, size_t>
      mtus_;  // nodes by MTU; those that do not know theirs, or are alone, left out
  size_t v6_ = 0;
};

// What the network's options ask for; 0 when they do not. INVALID_ARGUMENT with the reason, also
// below 1280 where there is IPv6 (RFC 8200, 5).
Result<uint32_t> wanted_mtu(const v1::NetworkSpec& spec);

// Whether the network's options ask for its frames to be encrypted between nodes ("encrypted", also
// without a value, as in Docker).
bool is_encrypted(const v1::NetworkSpec& spec);

// The largest packets of an overlay network that the data paths carry in one piece; 0 = none.
// Networks that are encrypted leave room for ESP in UDP, so that a filter for protocol 50 changes
// no MTU.
uint32_t uncut_mtu(const v1::NetworkSpec& spec, const DataPaths& paths);

// The MTU that follows: no less than IP needs, and IPv6 where the network has it (RFC 8200, 5),
// whether the data paths carry that in one piece or not.
uint32_t carried_mtu(const v1::NetworkSpec& spec, const DataPaths& paths);

// The MTU of a network's interfaces: what is wanted, else what is carried. 0 for networks that do
// not cross between nodes: they have their own.
uint32_t overlay_mtu(const v1::NetworkSpec& spec, const DataPaths& paths);

}  // namespace muster::overlay
