#pragma once

#include <openssl/types.h>

#include <array>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"
#include "raft/storage/key_ring.h"

namespace muster::raft {

// SHA-256 over everything stored so far: a record's chain covers its own bytes and, through the
// chain of the record before, all earlier ones.
inline constexpr size_t kChainBytes = 32;
using Chain = std::array<char, kChainBytes>;
inline constexpr Chain kNoChain{};  // before the first record

// Computes chains; keeps the context, whose making costs more than a short record. Not thread-safe.
class ChainHash {
 public:
  ChainHash();
  ChainHash(const ChainHash&) = delete;
  ChainHash& operator=(const ChainHash&) = delete;
  ~ChainHash();
  Chain next(const Chain& before, std::initializer_list<std::string_view> parts);

 private:
  EVP_MD* digest_;
  EVP_MD_CTX* context_;
};

// A record as stored (FORMAT.md) is head and sealed payload one after the other; apart, so that a
// payload is copied once less.
struct Record {
  std::string head;
  std::string sealed;
};
Result<Record> encode_record(const KeyRing& ring, const DataKey& key, const Entry& entry,
                             const Chain& previous);
// DATA_LOSS when it is damaged, is not entry `index`, or does not follow `previous`.
// FAILED_PRECONDITION, reason "feature-level", when it is of a kind not known here.
Result<Entry> decode_record(const KeyRing& ring, Index index, std::string_view record,
                            const Chain& previous);

// What a record says of itself without its key; checked by the chain alone.
struct RecordHead {
  uint8_t key_id = 0;
  EntryKind kind = EntryKind::kEmpty;
  Index index = 0;
  Term term = 0;
  Chain previous{};
};
std::optional<RecordHead> read_head(std::string_view record);  // nothing: too short, other version

// The end of the log that was synced. Written with every step; a second copy lies in a file.
struct Watermark {
  uint64_t step = 0;  // how many steps were ever written; terms and indexes may go back, this not
  Index index = 0;    // of the last entry
  Term term = 0;
  Chain chain{};

  friend bool operator==(const Watermark&, const Watermark&) = default;
};
std::string encode_watermark(const Watermark& mark);
Result<Watermark> decode_watermark(std::string_view bytes);

// What the log begins with: the snapshot, and the last entry that is not kept any more.
struct Manifest {
  SnapshotMark mark;  // index 0: no snapshot
  Index base_index = 0;
  Term base_term = 0;
  Chain base_chain{};
  uint8_t key_id = 0;  // that the stored manifest needs
};
Result<std::string> encode_manifest(const KeyRing& ring, const DataKey& key,
                                    const Manifest& manifest);
Result<Manifest> decode_manifest(const KeyRing& ring, std::string_view bytes);

}  // namespace muster::raft
