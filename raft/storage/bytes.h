#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace muster::raft {

// Fixed-width big-endian numbers: keys that sort by index, headers that read the same everywhere.
inline void put_u64(std::string& out, uint64_t value) {
  for (int shift = 56; shift >= 0; shift -= 8) out.push_back(static_cast<char>(value >> shift));
}
inline void put_u32(std::string& out, uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<char>(value >> shift));
}
// `text` must hold the bytes asked for.
inline uint64_t get_uint(std::string_view text, size_t at, size_t bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < bytes; ++i) value = value << 8 | static_cast<unsigned char>(text[at + i]);
  return value;
}

}  // namespace muster::raft
