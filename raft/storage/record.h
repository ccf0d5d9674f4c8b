#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"
#include "raft/storage/data_key.h"

namespace muster::raft {

struct LogEntry {
  uint64_t index = 0;
  uint64_t term = 0;
  std::string payload;
};

// SHA-256 over everything stored so far: a record's chain covers its own bytes and, through the
// chain of the record before, all earlier ones. Empty text before the first record.
using Chain = std::string;
inline constexpr size_t kChainBytes = 32;
Chain next_chain(const Chain& previous, std::string_view record);

// A record as stored (FORMAT.md): version, key id, index, term, chain of the record before, sealed
// payload.
Result<std::string> encode_record(const DataKey& key, const LogEntry& entry, const Chain& previous);
// DATA_LOSS when it is damaged, is not entry `index`, or does not follow `previous`.
Result<LogEntry> decode_record(const DataKey& key, uint64_t index, std::string_view record,
                               const Chain& previous);
// The chain before, as the record states it; empty text when the record is too short.
Chain stated_previous(std::string_view record);

// The end of the log that was synced: written with every batch, and once a second to a file.
struct Watermark {
  uint64_t index = 0;
  uint64_t term = 0;
  Chain chain = Chain(kChainBytes, '\0');

  friend bool operator==(const Watermark&, const Watermark&) = default;
};
std::string encode_watermark(const Watermark& mark);
Result<Watermark> decode_watermark(std::string_view bytes);

}  // namespace muster::raft
