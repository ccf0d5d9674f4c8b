#pragma once

#include <cstdint>
#include <string_view>

namespace muster {

// CRC-32C (Castagnoli) of `bytes`, as iSCSI and RocksDB know it. With the processor's instruction
// where it has one.
uint32_t crc32c(std::string_view bytes);
// The same by table, for processors without.
uint32_t crc32c_by_table(std::string_view bytes);

}  // namespace muster
