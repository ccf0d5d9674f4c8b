#pragma once

#include <cstdint>

#include "base/rng.h"

namespace muster::sim {

// OpenSSL's random numbers from a seed, as long as it lives: keys, serial numbers, signatures and
// tokens of a run are those of its seed, byte for byte, and the cryptography is real. One at a
// time, in one thread.
class SeededOpenSsl {
 public:
  explicit SeededOpenSsl(uint64_t seed);
  ~SeededOpenSsl();
  SeededOpenSsl(const SeededOpenSsl&) = delete;
  SeededOpenSsl& operator=(const SeededOpenSsl&) = delete;

 private:
  SeededRng rng_;
};

}  // namespace muster::sim
