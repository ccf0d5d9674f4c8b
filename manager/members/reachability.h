#pragma once

#include <string>

#include "base/status.h"
#include "base/unique_function.h"

namespace muster::manager::members {

// Whether a manager can be reached where it says it can; a port, since it touches the network.
class Reachability {
 public:
  virtual ~Reachability() = default;
  // Connects to `address` (host:port) and finds a manager of this swarm there, by its certificate.
  // Answers on the strand of the caller within 5 s, never from inside the call.
  virtual void check(const std::string& address, UniqueFunction<void(Status)> done) = 0;
};

}  // namespace muster::manager::members
