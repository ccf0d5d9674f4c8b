#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>

namespace muster::overlay {

// Numbers [0, size) given out in rising order, wrapping at the end: a number that was put back is
// the last to be given out again, so that caches of its former holder (ARP, DNS, conntrack) have
// time to forget it. Sparse: memory follows what is taken, 128 bytes per 1,024 numbers, so size
// may be 2^63. take_next() is O(log n) plus one step per full block it passes.
class SerialSet {
 public:
  explicit SerialSet(uint64_t size) : size_(size) {}

  uint64_t size() const { return size_; }
  uint64_t taken() const { return taken_; }
  bool contains(uint64_t n) const;

  // False when `n` is taken already or outside.
  bool take(uint64_t n);
  // The next free number in [from, to), starting after the last one given out.
  std::optional<uint64_t> take_next(uint64_t from, uint64_t to);
  // False when it was not taken.
  bool put_back(uint64_t n);
  // Where the search starts; rebuilding sets it behind the highest number in use.
  void set_cursor(uint64_t n) { cursor_ = n; }
  uint64_t cursor() const { return cursor_; }

 private:
  static constexpr uint64_t kBlockBits = 1024;
  struct Block {
    std::array<uint64_t, kBlockBits / 64> words{};
    uint32_t taken = 0;
  };

  std::optional<uint64_t> find_free(uint64_t from, uint64_t to) const;

  uint64_t size_;
  uint64_t taken_ = 0;
  uint64_t cursor_ = 0;
  std::map<uint64_t, Block> blocks_;
};

}  // namespace muster::overlay
