#pragma once

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "base/unique_fd.h"

namespace muster::overlay {

// Sockets by which the kernel takes ESP out of UDP (RFC 3948): nothing of it is ever read here.
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

// One, bound to all addresses of a family.
Result<UniqueFd> open_encapsulation(bool v6, uint16_t port);

}  // namespace muster::overlay
