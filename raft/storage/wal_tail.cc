#include "raft/storage/wal_tail.h"

#include <algorithm>

#include "base/crc32c.h"

namespace muster::raft {
namespace {

constexpr size_t kBlockBytes = 32 << 10;
constexpr size_t kHeadBytes = 7;  // masked CRC (4), length (2), both little-endian, type (1)
constexpr uint8_t kFull = 1;
constexpr uint8_t kFirst = 2;
constexpr uint8_t kLast = 4;

uint32_t masked_crc(std::string_view data) {
  const uint32_t crc = crc32c(data);
  return (crc >> 15 | crc << 17) + 0xa282ead8U;
}

uint32_t little(std::string_view data, size_t at, size_t bytes) {
  uint32_t value = 0;
  for (size_t i = bytes; i-- > 0;) value = value << 8 | static_cast<uint8_t>(data[at + i]);
  return value;
}

// The bytes of the fragment at the front of `block`; 0 when there is no whole one.
size_t fragment(std::string_view block) {
  if (block.size() < kHeadBytes) return 0;
  const size_t bytes = kHeadBytes + little(block, 4, 2);
  const auto type = static_cast<uint8_t>(block[6]);
  if (type < kFull || type > kLast || bytes > block.size()) return 0;
  return little(block, 0, 4) == masked_crc(block.substr(6, bytes - 6)) ? bytes : 0;
}

// Whether a record begins, whole, anywhere in `block`.
bool record_begins(std::string_view block) {
  for (size_t at = 0; at + kHeadBytes <= block.size(); ++at) {
    const auto type = static_cast<uint8_t>(block[at + 6]);
    if ((type == kFull || type == kFirst) && fragment(block.substr(at)) != 0) return true;
  }
  return false;
}

}  // namespace

std::optional<uint64_t> torn_tail(std::string_view wal) {
  uint64_t good = 0;  // end of the last whole record
  size_t at = 0;
  while (at < wal.size()) {
    const size_t block_end = std::min(wal.size(), at - at % kBlockBytes + kBlockBytes);
    const std::string_view rest = wal.substr(at, block_end - at);
    if (rest.size() < kHeadBytes && block_end % kBlockBytes == 0) {
      at = block_end;  // the padding of a block
      continue;
    }
    const size_t bytes = fragment(rest);
    if (bytes == 0) break;
    const auto type = static_cast<uint8_t>(rest[6]);
    at += bytes;
    if (type == kFull || type == kLast) good = at;
  }
  if (good == wal.size() || at >= wal.size()) return std::nullopt;  // whole, or merely cut short
  for (size_t next = at + 1; next < wal.size();) {
    const size_t block_end = std::min(wal.size(), next - next % kBlockBytes + kBlockBytes);
    if (record_begins(wal.substr(next, block_end - next))) return std::nullopt;
    next = block_end;
  }
  return good;
}

}  // namespace muster::raft
