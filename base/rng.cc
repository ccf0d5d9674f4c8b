#include "base/rng.h"

#include <sys/random.h>

#include "base/check.h"

namespace muster {
namespace {

uint64_t rotl(uint64_t x, int k) {
  return (x << k) | (x >> (64 - k));
}

}  // namespace

uint64_t Rng::below(uint64_t bound) {
  MUSTER_CHECK(bound > 0);
  // Rejects the uneven tail of the range.
  const uint64_t limit = UINT64_MAX - UINT64_MAX % bound;
  uint64_t value = next();
  while (value >= limit) value = next();
  return value % bound;
}

std::string Rng::id() {
  static constexpr char kDigits[] = "0123456789abcdefghijklmnopqrstuvwxyz";
  std::string out(25, '0');
  // 12 digits of base 36 fit into 63 bits; three draws make 25 digits with the first in [a-z], so
  // that an id is never mistaken for a number.
  uint64_t draw = 0;
  for (size_t i = 0; i < out.size(); ++i) {
    if (i % 12 == 0) draw = below(4'738'381'338'321'616'896ULL);  // 36^12
    out[i] = kDigits[draw % 36];
    draw /= 36;
  }
  out[0] = kDigits[10 + below(26)];
  return out;
}

SeededRng::SeededRng(uint64_t seed) {
  // SplitMix64 spreads the seed over the state.
  for (uint64_t& word : state_) {
    seed += 0x9e3779b97f4a7c15ULL;
    uint64_t z = seed;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    word = z ^ (z >> 31);
  }
}

uint64_t SeededRng::next() {
  const uint64_t result = rotl(state_[1] * 5, 7) * 9;
  const uint64_t t = state_[1] << 17;
  state_[2] ^= state_[0];
  state_[3] ^= state_[1];
  state_[1] ^= state_[2];
  state_[0] ^= state_[3];
  state_[2] ^= t;
  state_[3] = rotl(state_[3], 45);
  return result;
}

uint64_t SystemRng::next() {
  uint64_t value = 0;
  MUSTER_CHECK(getrandom(&value, sizeof value, 0) == static_cast<ssize_t>(sizeof value));
  return value;
}

}  // namespace muster
