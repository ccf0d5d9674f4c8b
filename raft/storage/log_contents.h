#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>

#include "raft/storage/key_ring.h"
#include "raft/storage/log_db.h"
#include "raft/storage/log_store.h"
#include "raft/storage/record.h"

namespace muster::raft {

// What a log says outside its entries.
struct LogMeta {
  HardState hard_state;
  Manifest manifest;
  Watermark mark;
};

// FAILED_PRECONDITION for another format, DATA_LOSS for damage.
Status check_format(const LogDb& db, const std::filesystem::path& dir, bool may_be_new);
Result<LogMeta> load_meta(const LogDb& db, const KeyRing& ring);
// Its parts, for who wants those that are readable.
Result<HardState> load_hard_state(const LogDb& db);
Result<Manifest> load_manifest(const LogDb& db, const KeyRing& ring);
Result<Watermark> load_watermark(const LogDb& db);
// The second copy; NOT_FOUND when there is none.
Result<Watermark> load_watermark_file(const std::filesystem::path& dir);

std::string encode_hard_state(const HardState& state);

// Which data key which entries need: of each key, the last entry.
using KeyUse = std::map<uint8_t, Index>;

// Whether all that was acknowledged is there: the second watermark, the chain of every entry, the
// snapshot's file. DATA_LOSS says what is not.
Result<KeyUse> check_contents(const LogDb& db, const KeyRing& ring, const LogMeta& meta,
                              const std::filesystem::path& dir);

// Visits entries from `from` (kept) to `to`, checked and decrypted; stops at the first error.
Status read_entries(const LogDb& db, const KeyRing& ring, const LogMeta& meta, Index from, Index to,
                    const std::function<Status(Entry entry, size_t stored_bytes)>& visit);

// The chain of the record before entry `index`, which is kept or the next one.
Result<Chain> chain_before(const LogDb& db, const LogMeta& meta, Index index);
// Of an entry kept, or of the base.
Result<Term> term_of(const LogDb& db, const LogMeta& meta, Index index);

// `status`, if it is DATA_LOSS, as people need to read it: what it means and what to do.
Status explain_damage(const std::filesystem::path& dir, Status status);

}  // namespace muster::raft
