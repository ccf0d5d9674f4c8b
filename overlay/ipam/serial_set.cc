#include "overlay/ipam/serial_set.h"

#include <algorithm>
#include <bit>

namespace muster::overlay {

bool SerialSet::contains(uint64_t n) const {
  const auto it = blocks_.find(n / kBlockBits);
  if (it == blocks_.end()) return false;
  const uint64_t bit = n % kBlockBits;
  return (it->second.words[bit / 64] >> (bit % 64)) & 1;
}

bool SerialSet::take(uint64_t n) {
  if (n >= size_) return false;
  Block& block = blocks_[n / kBlockBits];
  const uint64_t bit = n % kBlockBits;
  uint64_t& word = block.words[bit / 64];
  const uint64_t mask = uint64_t{1} << (bit % 64);
  if (word & mask) return false;
  word |= mask;
  ++block.taken;
  ++taken_;
  return true;
}

bool SerialSet::put_back(uint64_t n) {
  const auto it = blocks_.find(n / kBlockBits);
  if (it == blocks_.end()) return false;
  const uint64_t bit = n % kBlockBits;
  uint64_t& word = it->second.words[bit / 64];
  const uint64_t mask = uint64_t{1} << (bit % 64);
  if (!(word & mask)) return false;
  word &= ~mask;
  --taken_;
  if (--it->second.taken == 0) blocks_.erase(it);
  return true;
}

std::optional<uint64_t> SerialSet::find_free(uint64_t from, uint64_t to) const {
  uint64_t n = from;
  while (n < to) {
    const uint64_t block_end = (n / kBlockBits + 1) * kBlockBits;
    const auto it = blocks_.find(n / kBlockBits);
    if (it == blocks_.end()) return n;
    if (it->second.taken == kBlockBits) {
      n = block_end;
      continue;
    }
    while (n < std::min(to, block_end)) {
      const uint64_t bit = n % kBlockBits;
      const uint64_t free = ~it->second.words[bit / 64] >> (bit % 64);
      if (free != 0) {
        n += std::countr_zero(free);
        return n < to ? std::optional(n) : std::nullopt;
      }
      n += 64 - bit % 64;
    }
  }
  return std::nullopt;
}

std::optional<uint64_t> SerialSet::take_next(uint64_t from, uint64_t to) {
  to = std::min(to, size_);
  if (from >= to) return std::nullopt;
  const uint64_t start = cursor_ < from || cursor_ >= to ? from : cursor_;
  auto found = find_free(start, to);
  if (!found) found = find_free(from, start);
  if (!found) return std::nullopt;
  take(*found);
  cursor_ = *found + 1;
  return found;
}

}  // namespace muster::overlay
