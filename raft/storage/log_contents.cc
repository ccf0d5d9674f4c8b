#include "raft/storage/log_contents.h"

#include <utility>

#include "base/file.h"
#include "raft/storage/bytes.h"
#include "raft/storage/snapshot_file.h"

namespace muster::raft {
namespace {

constexpr char kStateVersion = 1;

Result<std::string> record_at(const LogDb& db, Index index) {
  MUSTER_ASSIGN(std::string value, db.get(*db.log, index_key(index)));
  if (value.empty()) return fail(data_loss("log entry {} is missing", index));
  return value;
}

// The second copy is outside RocksDB: it catches a database that opens well but is too short.
Status check_watermark_file(const std::filesystem::path& dir, const Watermark& mark) {
  const auto file = load_watermark_file(dir);
  if (!file) {
    return file.error().code() == StatusCode::kNotFound ? ok_status() : file.error();
  }
  if (mark.step < file->step) {
    return data_loss("its last write is number {}, but number {}, up to entry {}, was acknowledged",
                     mark.step, file->step, file->index);
  }
  if (mark.step == file->step && mark != *file) {
    return data_loss("its last write is not the one that its watermark file names");
  }
  return ok_status();
}

}  // namespace

Status check_format(const LogDb& db, const std::filesystem::path& dir, bool may_be_new) {
  MUSTER_ASSIGN(const std::string format, db.get(*db.meta, kKeyFormat));
  if (format == kFormat || (format.empty() && may_be_new)) return ok_status();
  if (format.empty()) return data_loss("it does not say its format");
  if (format == "muster-log 1") {
    return failed_precondition(
        "the log in {} has format 1, written by a muster whose managers could not form a group; "
        "this one cannot read it: remove the directory and begin anew",
        dir.string());
  }
  return failed_precondition(
      "the log in {} has format \"{}\"; this muster knows \"{}\": upgrade muster on this node",
      dir.string(), format, kFormat);
}

std::string encode_hard_state(const HardState& state) {
  std::string value(1, kStateVersion);
  put_u64(value, state.term);
  put_u64(value, state.vote.value);
  return value;
}

Result<HardState> load_hard_state(const LogDb& db) {
  MUSTER_ASSIGN(const std::string state, db.get(*db.meta, kKeyHardState));
  if (state.empty()) return HardState{};
  if (state.size() != 17 || state[0] != kStateVersion) {
    return fail(data_loss("term and vote are damaged"));
  }
  return HardState{get_uint(state, 1, 8), MemberId{get_uint(state, 9, 8)}};
}

Result<Manifest> load_manifest(const LogDb& db, const KeyRing& ring) {
  MUSTER_ASSIGN(const std::string manifest, db.get(*db.snap, kKeySnapshot));
  if (manifest.empty()) return Manifest{};
  return decode_manifest(ring, manifest);
}

Result<Watermark> load_watermark(const LogDb& db) {
  MUSTER_ASSIGN(const std::string durable, db.get(*db.meta, kKeyDurable));
  return decode_watermark(durable);
}

Result<Watermark> load_watermark_file(const std::filesystem::path& dir) {
  MUSTER_ASSIGN(const std::string text, read_file(dir / "watermark", 4096));
  return decode_watermark(text);
}

Result<LogMeta> load_meta(const LogDb& db, const KeyRing& ring) {
  LogMeta meta;
  MUSTER_ASSIGN(meta.hard_state, load_hard_state(db));
  MUSTER_ASSIGN(meta.manifest, load_manifest(db, ring));
  MUSTER_ASSIGN(meta.mark, load_watermark(db));
  return meta;
}

Result<KeyUse> check_contents(const LogDb& db, const KeyRing& ring, const LogMeta& meta,
                              const std::filesystem::path& dir) {
  MUSTER_TRY(check_watermark_file(dir, meta.mark));
  const Manifest& manifest = meta.manifest;
  if (manifest.mark.index != 0) {
    auto file = SnapshotFileReader::open(
        dir, std::shared_ptr<const KeyRing>(std::shared_ptr<void>(), &ring), manifest.mark.index,
        manifest.mark.term);
    if (!file && file.error().code() == StatusCode::kNotFound) {
      return fail(data_loss("its snapshot {} is missing",
                            snapshot_file_name(manifest.mark.index, manifest.mark.term)));
    }
    if (!file) return fail(std::move(file).error());
  }
  if (manifest.base_index > manifest.mark.index || meta.mark.index < manifest.mark.index) {
    return fail(data_loss("its snapshot, of entry {}, does not fit entries after {} to {}",
                          manifest.mark.index, manifest.base_index, meta.mark.index));
  }
  KeyUse used;
  ChainHash hash;
  Chain chain = manifest.base_chain;
  Term term = manifest.base_term;
  Index next = manifest.base_index + 1;
  const std::unique_ptr<rocksdb::Iterator> it(db.db->NewIterator({}, db.log.get()));
  for (it->Seek(index_key(next)); it->Valid(); it->Next(), ++next) {
    const std::string_view record(it->value().data(), it->value().size());
    const auto head = read_head(record);
    if (it->key() != slice(index_key(next)) || !head || head->previous != chain ||
        head->term < term) {
      return fail(data_loss("it has a gap before or at entry {}", next));
    }
    chain = hash.next(chain, {record});
    term = head->term;
    used[head->key_id] = next;
  }
  MUSTER_TRY(from_rocksdb(it->status(), "cannot read the log"));
  if (next - 1 != meta.mark.index || chain != meta.mark.chain || term != meta.mark.term) {
    return fail(
        data_loss("it ends at entry {}, but its watermark says {}", next - 1, meta.mark.index));
  }
  if (term > meta.hard_state.term) {
    return fail(
        data_loss("its last entry is of term {}, but its term is {}", term, meta.hard_state.term));
  }
  return used;
}

Status read_entries(const LogDb& db, const KeyRing& ring, const LogMeta& meta, Index from, Index to,
                    const std::function<Status(Entry entry, size_t stored_bytes)>& visit) {
  to = std::min(to, meta.mark.index);
  if (from > to) return ok_status();
  MUSTER_ASSIGN(Chain chain, chain_before(db, meta, from));
  ChainHash hash;
  const std::unique_ptr<rocksdb::Iterator> it(db.db->NewIterator({}, db.log.get()));
  Index index = from;
  for (it->Seek(index_key(from)); it->Valid() && index <= to; it->Next(), ++index) {
    const std::string_view bytes(it->value().data(), it->value().size());
    MUSTER_ASSIGN(Entry entry, decode_record(ring, index, bytes, chain));
    chain = hash.next(chain, {bytes});
    MUSTER_TRY(visit(std::move(entry), bytes.size()));
  }
  MUSTER_TRY(from_rocksdb(it->status(), "cannot read the log"));
  if (index != to + 1) return data_loss("log entry {} is missing", index);
  return ok_status();
}

Result<Chain> chain_before(const LogDb& db, const LogMeta& meta, Index index) {
  if (index == meta.mark.index + 1) return meta.mark.chain;
  if (index == meta.manifest.base_index + 1) return meta.manifest.base_chain;
  if (index <= meta.manifest.base_index || index > meta.mark.index) {
    return fail(internal_error("entry {} cannot follow a log of {} to {}", index,
                               meta.manifest.base_index + 1, meta.mark.index));
  }
  MUSTER_ASSIGN(const std::string bytes, record_at(db, index));
  const auto head = read_head(bytes);
  if (!head) return fail(data_loss("log entry {} is damaged", index));
  return head->previous;
}

Result<Term> term_of(const LogDb& db, const LogMeta& meta, Index index) {
  if (index == meta.mark.index) return meta.mark.term;
  if (index == meta.manifest.base_index) return meta.manifest.base_term;
  MUSTER_ASSIGN(const std::string bytes, record_at(db, index));
  const auto head = read_head(bytes);
  if (!head) return fail(data_loss("log entry {} is damaged", index));
  return head->term;
}

Status explain_damage(const std::filesystem::path& dir, Status status) {
  if (status.code() != StatusCode::kDataLoss) return status;
  return Status(
      StatusCode::kDataLoss,
      fmt::format(
          "the log in {} is CORRUPT: {}. What other managers were promised is lost here, so "
          "this member must not vote again",
          dir.string(), status.message()),
      "log-corrupt");
}

}  // namespace muster::raft
