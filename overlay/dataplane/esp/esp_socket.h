#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <vector>

#include "base/status.h"
#include "base/time.h"
#include "base/unique_fd.h"

namespace muster::overlay {

// Has somebody hold sockets by which the kernel takes ESP out of UDP (RFC 3948), at this port and
// at no other; 0: at none. Asked again and again, it says whether they are there. Somebody who
// outlives this process takes over what a former one had.
using HoldEncapsulation = std::function<Status(uint16_t port)>;

// What has become of packets since it was told last, and how many states the kernel has.
struct EspCounts {
  size_t states = 0;
  // In plain text, and dropped.
  uint64_t plain_out = 0;
  uint64_t plain_in = 0;
  // Encrypted, and not taken in: with a number that was used, or not by who has the key.
  uint64_t replays = 0;
  uint64_t forged = 0;
};

// What encryption needs of the host beside the kernel.
struct EspOptions {
  HoldEncapsulation hold = {};  // empty: this process holds the sockets itself
  // Where the lane that is sent in (esp_lane.h) is kept beyond a start of the host; empty: nowhere.
  std::filesystem::path lane_file = {};
  std::function<void(const EspCounts&)> count = {};  // at each look at the kernel
  std::function<WallTime()> now = {};                // empty: the host's clock
  // Why this node cannot encrypt (encryption_trouble); empty: that one.
  std::function<std::string(bool v6)> ask = {};
};

// Sockets of this process: nothing is ever read from them.
class EncapsulationSocket {
 public:
  // 0: none. Keeps what is there already.
  Status open(uint16_t port);
  void close() {
    sockets_.clear();
    port_ = 0;
  }

 private:
  uint16_t port_ = 0;
  std::vector<UniqueFd> sockets_;
};

// One, bound to all addresses of a family, that keeps nothing of what comes to it. ALREADY_EXISTS
// when the port is taken, NOT_FOUND when the kernel does not have the family.
Result<UniqueFd> open_encapsulation(bool v6, uint16_t port);

}  // namespace muster::overlay
