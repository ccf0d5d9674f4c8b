#include "raft/storage/rocks_log_store.h"

#include <fcntl.h>
#include <rocksdb/db.h>
#include <rocksdb/options.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/check.h"
#include "base/file.h"
#include "base/unique_fd.h"
#include "raft/storage/bytes.h"

namespace muster::raft {
namespace {

constexpr char kStateVersion = 1;
constexpr char kSnapshotVersion = 1;
const std::string kKeyFormat = "format";
const std::string kKeyHardState = "hard_state";
const std::string kKeyDurable = "durable";
const std::string kKeySnapshot = "current";
const std::string kFormat = "muster-log 1";

std::string index_key(uint64_t index) {
  std::string key;
  put_u64(key, index);
  return key;
}

rocksdb::Slice slice(std::string_view text) {
  return {text.data(), text.size()};
}

Status from_rocksdb(const rocksdb::Status& status, std::string_view what) {
  if (status.ok()) return ok_status();
  if (status.IsCorruption()) return data_loss("{}: {}", what, status.ToString());
  return internal_error("{}: {}", what, status.ToString());
}

int64_t monotonic_ns() {
  timespec ts{};
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return static_cast<int64_t>(ts.tv_sec) * 1'000'000'000 + ts.tv_nsec;
}

// Space set aside while there is some, given back by deleting the file when there is none.
Status keep_reserve(const std::filesystem::path& dir, uint64_t bytes, uint64_t free_min,
                    const Log& log) {
  const std::filesystem::path file = dir / "reserve";
  struct statvfs info {};
  if (statvfs(dir.c_str(), &info) != 0) return errno_status(errno, dir.string());
  const uint64_t available = uint64_t{info.f_bavail} * info.f_frsize;
  if (available < free_min) {
    if (unlink(file.c_str()) == 0) {
      log->warn("the disk under {} is almost full; gave up the reserve of {} MiB", dir.string(),
                bytes >> 20);
    }
    return ok_status();
  }
  if (bytes == 0 || std::filesystem::exists(file) || available < bytes + 2 * free_min) {
    return ok_status();
  }
  const UniqueFd fd(::open(file.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  if (!fd || posix_fallocate(fd.get(), 0, static_cast<off_t>(bytes)) != 0) {
    unlink(file.c_str());
    log->warn("cannot set aside {} MiB under {}", bytes >> 20, dir.string());
  }
  return ok_status();
}

rocksdb::Options database_options(rocksdb::Env* env) {
  rocksdb::Options o;
  o.create_if_missing = true;
  o.create_missing_column_families = true;
  // An incomplete last record is an ordinary crash; damage anywhere else refuses to open. The
  // default mode would silently drop everything after the first bad record.
  o.wal_recovery_mode = rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
  o.track_and_verify_wals_in_manifest = true;
  // After a failed sync the pages are marked clean and a retry reports success: never resume.
  o.max_bgerror_resume_count = 0;
  o.paranoid_checks = true;
  o.compression = rocksdb::kNoCompression;  // the values are encrypted
  o.max_open_files = 256;
  o.keep_log_file_num = 2;
  o.max_log_file_size = 4 << 20;
  o.max_total_wal_size = 64 << 20;
  o.stats_dump_period_sec = 0;
  o.stats_persist_period_sec = 0;
  o.write_buffer_size = 16 << 20;
  if (env != nullptr) o.env = env;
  return o;
}

}  // namespace

struct RocksLogStore::Db {
  std::unique_ptr<rocksdb::DB> db;
  std::unique_ptr<rocksdb::ColumnFamilyHandle> fallback;  // RocksDB's obligatory "default"
  std::unique_ptr<rocksdb::ColumnFamilyHandle> meta;
  std::unique_ptr<rocksdb::ColumnFamilyHandle> log;
  std::unique_ptr<rocksdb::ColumnFamilyHandle> snap;

  ~Db() {
    fallback.reset();
    meta.reset();
    log.reset();
    snap.reset();
    if (db != nullptr) db->Close();
  }

  // Empty text when there is none.
  Result<std::string> get(rocksdb::ColumnFamilyHandle& family, std::string_view key) const {
    std::string value;
    const auto status = db->Get({}, &family, slice(key), &value);
    if (status.IsNotFound()) return std::string();
    MUSTER_TRY(from_rocksdb(status, "cannot read the log"));
    return value;
  }
  rocksdb::Status write(rocksdb::WriteBatch& batch) const {
    rocksdb::WriteOptions options;
    options.sync = true;
    return db->Write(options, &batch);
  }
};

RocksLogStore::RocksLogStore(Options options, DataKey key, std::unique_ptr<Db> db)
    : options_(std::move(options)), key_(std::move(key)), db_(std::move(db)) {}

RocksLogStore::~RocksLogStore() {
  if (failed_.ok() && db_ != nullptr) save_watermark_file(true);
}

Result<std::unique_ptr<RocksLogStore>> RocksLogStore::open(Options options) {
  MUSTER_TRY(make_directory(options.dir, 0700));
  const std::filesystem::path db_dir = options.dir / "log";
  const bool existed = std::filesystem::exists(db_dir / "CURRENT");
  MUSTER_TRY(keep_reserve(options.dir, options.reserve_bytes, options.free_bytes_min, options.log));
  auto key = DataKey::load(options.dir / "log.key", !existed);
  if (!key) return fail(key.error().with_context("the log's key"));

  rocksdb::ColumnFamilyOptions family(database_options(options.env));
  const std::vector<rocksdb::ColumnFamilyDescriptor> families = {
      {rocksdb::kDefaultColumnFamilyName, family},
      {"meta", family},
      {"log", family},
      {"snap", family}};
  std::vector<rocksdb::ColumnFamilyHandle*> handles;
  rocksdb::DB* raw = nullptr;
  const auto status =
      rocksdb::DB::Open(database_options(options.env), db_dir.string(), families, &handles, &raw);
  MUSTER_TRY(from_rocksdb(status, fmt::format("cannot open the log in {}", db_dir.string())));
  auto db = std::make_unique<Db>();
  db->db.reset(raw);
  db->fallback.reset(handles[0]);
  db->meta.reset(handles[1]);
  db->log.reset(handles[2]);
  db->snap.reset(handles[3]);
  std::unique_ptr<RocksLogStore> store(
      new RocksLogStore(std::move(options), *std::move(key), std::move(db)));
  if (Status recovered = store->recover(); !recovered.ok()) {
    store->failed_ = recovered;
    return fail(std::move(recovered));
  }
  return store;
}

Status RocksLogStore::recover() {
  MUSTER_ASSIGN(const std::string format, db_->get(*db_->meta, kKeyFormat));
  if (format.empty()) {
    rocksdb::WriteBatch batch;
    batch.Put(db_->meta.get(), kKeyFormat, kFormat);
    batch.Put(db_->meta.get(), kKeyDurable, encode_watermark(mark_));
    MUSTER_TRY(from_rocksdb(db_->write(batch), "cannot write the log"));
  } else if (format != kFormat) {
    return failed_precondition(
        "the log in {} has format \"{}\"; this muster knows \"{}\": upgrade "
        "muster on this node",
        options_.dir.string(), format, kFormat);
  }
  MUSTER_ASSIGN(const std::string state, db_->get(*db_->meta, kKeyHardState));
  if (!state.empty()) {
    if (state.size() < 9 || state[0] != kStateVersion)
      return data_loss("term and vote are damaged");
    hard_state_.term = get_uint(state, 1, 8);
    // Logs of one member once named it by a word; it had nobody else to vote for.
    if (state.size() == 17) hard_state_.vote.value = get_uint(state, 9, 8);
  }
  MUSTER_ASSIGN(const std::string snap, db_->get(*db_->snap, kKeySnapshot));
  if (!snap.empty()) {
    if (snap.size() < 17 + kChainBytes || snap[0] != kSnapshotVersion) {
      return data_loss("the snapshot's entry is damaged");
    }
    snapshot_ = {get_uint(snap, 1, 8), get_uint(snap, 9, 8), snap.substr(17, kChainBytes),
                 snap.substr(17 + kChainBytes)};
  }
  MUSTER_ASSIGN(const std::string durable, db_->get(*db_->meta, kKeyDurable));
  MUSTER_ASSIGN(mark_, decode_watermark(durable));

  // The second copy is outside RocksDB: it catches a database that opens well but is too short.
  auto text = read_file(options_.dir / "watermark", 4096);
  if (text) {
    MUSTER_ASSIGN(const Watermark file, decode_watermark(*text));
    // Terms may shrink nothing; indexes may, when a later term replaced the end of the log.
    if (mark_.index < file.index && mark_.term <= file.term) {
      return data_loss("the log in {} ends at entry {}, but entry {} was written and acknowledged",
                       options_.dir.string(), mark_.index, file.index);
    }
  } else if (text.error().code() != StatusCode::kNotFound) {
    return std::move(text).error();
  }
  MUSTER_TRY(check_entries());
  remove_stale_snapshots();
  save_watermark_file(true);
  return ok_status();
}

// The log has every entry after the snapshot up to the watermark, each chained to the one before.
Status RocksLogStore::check_entries() {
  Chain chain = snapshot_.index == 0 ? Chain(kChainBytes, '\0') : snapshot_.chain;
  uint64_t next = first_index();
  const std::unique_ptr<rocksdb::Iterator> it(db_->db->NewIterator({}, db_->log.get()));
  for (it->Seek(index_key(next)); it->Valid(); it->Next(), ++next) {
    const std::string_view record(it->value().data(), it->value().size());
    if (it->key() != slice(index_key(next)) || stated_previous(record) != chain) {
      return data_loss("the log in {} has a gap before or at entry {}", options_.dir.string(),
                       next);
    }
    chain = next_chain(chain, record);
  }
  MUSTER_TRY(from_rocksdb(it->status(), "cannot read the log"));
  if (next - 1 != mark_.index || (mark_.index != 0 && chain != mark_.chain)) {
    return data_loss("the log in {} ends at entry {}, but its watermark says {}",
                     options_.dir.string(), next - 1, mark_.index);
  }
  return ok_status();
}

Result<std::string> RocksLogStore::record(uint64_t index) const {
  MUSTER_ASSIGN(std::string value, db_->get(*db_->log, index_key(index)));
  if (value.empty()) return fail(not_found("log entry {} not found", index));
  return value;
}

Result<Chain> RocksLogStore::chain_before(uint64_t index) const {
  if (index == mark_.index + 1) return mark_.chain;
  if (index < first_index() || index > mark_.index) {
    return fail(internal_error("entry {} cannot follow a log of {} to {}", index, first_index(),
                               mark_.index));
  }
  MUSTER_ASSIGN(const std::string bytes, record(index));
  return stated_previous(bytes);
}

Status RocksLogStore::check_room() {
  struct statvfs info {};
  if (statvfs(options_.dir.c_str(), &info) != 0) return ok_status();
  const uint64_t available = uint64_t{info.f_bavail} * info.f_frsize;
  if (available >= options_.free_bytes_min) return ok_status();
  return Status(StatusCode::kResourceExhausted,
                fmt::format("the disk under {} is full ({} MiB left, {} needed)",
                            options_.dir.string(), available >> 20, options_.free_bytes_min >> 20),
                "disk-full");
}

Status RocksLogStore::add_entries(const LogBatch& batch, void* write_batch, Watermark& mark) {
  auto& writes = *static_cast<rocksdb::WriteBatch*>(write_batch);
  if (batch.entries.empty()) return ok_status();
  const uint64_t first = batch.entries.front().index;
  if (first <= mark.index) {
    // Replaces the end of the log, in the same write as what takes its place.
    MUSTER_CHECK(mark == mark_, "a replacement comes first among the batches of one write");
    MUSTER_ASSIGN(mark.chain, chain_before(first));
    writes.DeleteRange(db_->log.get(), index_key(first), index_key(mark.index + 1));
    mark.index = first - 1;
  }
  for (const LogEntry& entry : batch.entries) {
    if (entry.index != mark.index + 1) {
      return internal_error("entry {} does not follow entry {}", entry.index, mark.index);
    }
    MUSTER_ASSIGN(const std::string bytes, encode_record(key_, entry, mark.chain));
    mark = {entry.index, entry.term, next_chain(mark.chain, bytes)};
    writes.Put(db_->log.get(), index_key(entry.index), bytes);
  }
  return ok_status();
}

Status RocksLogStore::append(const std::vector<LogBatch>& batches) {
  MUSTER_TRY(failed_);
  // Term and vote are written on a full disk too: the reserve was given up for them.
  for (const LogBatch& batch : batches) {
    if (!batch.entries.empty()) MUSTER_TRY(check_room());
  }
  rocksdb::WriteBatch writes(0, 0, 8, 0);  // 8: protection bytes per key
  Watermark mark = mark_;
  HardState hard_state = hard_state_;
  for (const LogBatch& batch : batches) {
    MUSTER_TRY(add_entries(batch, &writes, mark));
    if (batch.has_hard_state) hard_state = batch.hard_state;
  }
  if (!(hard_state == hard_state_)) {
    std::string value(1, kStateVersion);
    put_u64(value, hard_state.term);
    put_u64(value, hard_state.vote.value);
    writes.Put(db_->meta.get(), kKeyHardState, value);
  }
  writes.Put(db_->meta.get(), kKeyDurable, encode_watermark(mark));
  failed_ = from_rocksdb(db_->write(writes), "cannot write the log");
  MUSTER_TRY(failed_);
  hard_state_ = hard_state;
  mark_ = std::move(mark);
  save_watermark_file(false);
  return ok_status();
}

Status RocksLogStore::read(uint64_t from,
                           const std::function<Status(LogEntry entry)>& visit) const {
  if (from > mark_.index) return ok_status();
  MUSTER_ASSIGN(Chain chain, chain_before(from));
  const std::unique_ptr<rocksdb::Iterator> it(db_->db->NewIterator({}, db_->log.get()));
  uint64_t index = from;
  for (it->Seek(index_key(from)); it->Valid() && index <= mark_.index; it->Next(), ++index) {
    const std::string_view bytes(it->value().data(), it->value().size());
    MUSTER_ASSIGN(LogEntry entry, decode_record(key_, index, bytes, chain));
    chain = next_chain(chain, bytes);
    MUSTER_TRY(visit(std::move(entry)));
  }
  MUSTER_TRY(from_rocksdb(it->status(), "cannot read the log"));
  if (index != mark_.index + 1) return data_loss("log entry {} is missing", index);
  return ok_status();
}

Result<uint64_t> RocksLogStore::term_of(uint64_t index) const {
  if (index == snapshot_.index) return snapshot_.term;
  if (index == mark_.index) return mark_.term;
  MUSTER_ASSIGN(const std::string bytes, record(index));
  MUSTER_ASSIGN(const LogEntry entry, decode_record(key_, index, bytes, stated_previous(bytes)));
  return entry.term;
}

Status RocksLogStore::set_snapshot(uint64_t index, const std::string& file) {
  MUSTER_TRY(failed_);
  if (index <= snapshot_.index || index > mark_.index) {
    return failed_precondition("a snapshot at entry {} does not fit a log of {} to {}", index,
                               first_index(), mark_.index);
  }
  StoredSnapshot next{index, 0, {}, file};
  MUSTER_ASSIGN(next.term, term_of(index));
  MUSTER_ASSIGN(next.chain, chain_before(index + 1));
  std::string value(1, kSnapshotVersion);
  put_u64(value, next.index);
  put_u64(value, next.term);
  value.append(next.chain).append(next.file);
  rocksdb::WriteBatch writes;
  writes.Put(db_->snap.get(), kKeySnapshot, value);
  writes.DeleteRange(db_->log.get(), index_key(0), index_key(index + 1));
  failed_ = from_rocksdb(db_->write(writes), "cannot record the snapshot");
  MUSTER_TRY(failed_);
  snapshot_ = std::move(next);
  // Tombstones would slow the next start.
  const std::string begin = index_key(0);
  const std::string end = index_key(index + 1);
  const rocksdb::Slice begin_slice = slice(begin);
  const rocksdb::Slice end_slice = slice(end);
  db_->db->SuggestCompactRange(db_->log.get(), &begin_slice, &end_slice).PermitUncheckedError();
  remove_stale_snapshots();
  return ok_status();
}

// Snapshots that were replaced or never finished.
void RocksLogStore::remove_stale_snapshots() {
  std::error_code error;
  for (const auto& item : std::filesystem::directory_iterator(options_.dir, error)) {
    const std::string name = item.path().filename().string();
    if (name.starts_with("snapshot-") && name != snapshot_.file) {
      std::filesystem::remove(item.path(), error);
    }
  }
}

// At most once a second, unless `now`. Losing this copy costs detection, not data.
void RocksLogStore::save_watermark_file(bool now) {
  const int64_t time = monotonic_ns();
  if (!now && time - watermark_saved_ns_ < 1'000'000'000) return;
  watermark_saved_ns_ = time;
  const Status status = write_file_atomic(options_.dir / "watermark", encode_watermark(mark_), 0600,
                                          Durability::kFsync);
  if (!status.ok()) options_.log->warn("cannot save the log's watermark: {}", status.message());
}

}  // namespace muster::raft
