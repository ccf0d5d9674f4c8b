#pragma once

#include <cstdint>
#include <string_view>

namespace muster {

// FNV-1a: the same number for the same text on every machine and in every version. Not for texts
// that somebody chooses with a purpose: two of one number are easily found.
constexpr uint32_t fnv1a_32(std::string_view text) {
  uint32_t h = 2166136261u;
  for (const char c : text) h = (h ^ static_cast<unsigned char>(c)) * 16777619u;
  return h;
}

constexpr uint64_t fnv1a_64(std::string_view text) {
  uint64_t h = 14695981039346656037ull;
  for (const char c : text) h = (h ^ static_cast<unsigned char>(c)) * 1099511628211ull;
  return h;
}

// The same, mixed once more (part of MurmurHash3's finaliser), for who uses a part of the bits: the
// last characters of a text would else change the low ones alone.
constexpr uint64_t fnv1a_64_mixed(std::string_view text) {
  uint64_t h = fnv1a_64(text);
  h ^= h >> 33;
  h *= 0xff51afd7ed558ccdull;
  h ^= h >> 33;
  return h;
}

}  // namespace muster
