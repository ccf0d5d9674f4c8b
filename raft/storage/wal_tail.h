#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace muster::raft {

// Where a write-ahead log of RocksDB (blocks of 32 KiB, records with CRC-32C) stops being whole
// because its last write did not reach the disk entirely: the offset to cut it at. Nothing when
// it is whole, or when a record begins after the damage: then more than one write is concerned, and
// what was acknowledged is damaged.
//
// Every write of the log is one record, synced before the next one begins; RocksDB itself accepts
// one that is cut short, but not one whose pages arrived in part.
std::optional<uint64_t> torn_tail(std::string_view wal);

}  // namespace muster::raft
