#include "raft/storage/log_db.h"

#include <fcntl.h>
#include <rocksdb/convenience.h>
#include <rocksdb/options.h>
#include <rocksdb/write_batch.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <utility>
#include <vector>

#include "base/file.h"
#include "raft/storage/bytes.h"
#include "raft/storage/wal_tail.h"

namespace muster::raft {
namespace {

constexpr size_t kWalBytesMax = size_t{1} << 30;

// RocksDB's own log of events, left out where nothing is to be written.
class Silence final : public rocksdb::Logger {
 public:
  using Logger::Logv;
  void Logv(const char*, va_list) override {}
};

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

LogDb::~LogDb() {
  fallback.reset();
  meta.reset();
  log.reset();
  snap.reset();
  if (db != nullptr) db->Close().PermitUncheckedError();
}

bool LogDb::exists(const std::filesystem::path& dir) {
  std::error_code error;
  return std::filesystem::exists(dir / "log" / "CURRENT", error);
}

Result<std::unique_ptr<LogDb>> LogDb::open(const std::filesystem::path& dir, Mode mode,
                                           rocksdb::Env* env) {
  rocksdb::Options options = database_options(env);
  const bool read_only = mode != Mode::kReadWrite;
  if (read_only) options.info_log = std::make_shared<Silence>();
  if (mode == Mode::kSalvage) {
    // Skipping the damaged ones alone does not open: their fragments spoil the writes around them.
    options.wal_recovery_mode = rocksdb::WALRecoveryMode::kPointInTimeRecovery;
    options.track_and_verify_wals_in_manifest = false;
  }
  const rocksdb::ColumnFamilyOptions family(options);
  const std::vector<rocksdb::ColumnFamilyDescriptor> families = {
      {rocksdb::kDefaultColumnFamilyName, family},
      {"meta", family},
      {"log", family},
      {"snap", family}};
  std::vector<rocksdb::ColumnFamilyHandle*> handles;
  rocksdb::DB* raw = nullptr;
  const std::string path = (dir / "log").string();
  const auto status = read_only
                          ? rocksdb::DB::OpenForReadOnly(options, path, families, &handles, &raw)
                          : rocksdb::DB::Open(options, path, families, &handles, &raw);
  MUSTER_TRY(from_rocksdb(status, fmt::format("cannot open the log in {}", path)));
  auto out = std::make_unique<LogDb>();
  out->db.reset(raw);
  out->fallback.reset(handles[0]);
  out->meta.reset(handles[1]);
  out->log.reset(handles[2]);
  out->snap.reset(handles[3]);
  return out;
}

Result<std::string> LogDb::get(rocksdb::ColumnFamilyHandle& family, std::string_view key) const {
  std::string value;
  const auto status = db->Get({}, &family, slice(key), &value);
  if (status.IsNotFound()) return std::string();
  MUSTER_TRY(from_rocksdb(status, "cannot read the log"));
  return value;
}

Status LogDb::write(rocksdb::WriteBatch& batch) const {
  rocksdb::WriteOptions options;
  options.sync = true;
  return from_rocksdb(db->Write(options, &batch), "cannot write the log");
}

void LogDb::reclaim(Index index) const {
  const std::string begin = index_key(0);
  const std::string end = index_key(index + 1);
  const rocksdb::Slice begin_slice = slice(begin);
  const rocksdb::Slice end_slice = slice(end);
  // Whole files first, without reading them; the rest is left to compactions, since tombstones
  // would slow the next start.
  rocksdb::DeleteFilesInRange(db.get(), log.get(), &begin_slice, &end_slice, false)
      .PermitUncheckedError();
  db->SuggestCompactRange(log.get(), &begin_slice, &end_slice).PermitUncheckedError();
}

std::string index_key(Index index) {
  std::string key;
  put_u64(key, index);
  return key;
}

Status from_rocksdb(const rocksdb::Status& status, std::string_view what) {
  if (status.ok()) return ok_status();
  if (status.IsCorruption()) return data_loss("{}: {}", what, status.ToString());
  return internal_error("{}: {}", what, status.ToString());
}

namespace {

// Cuts `file` where its last write stops being whole, after copying it into `aside`.
Status mend_file(const std::filesystem::path& file, const std::filesystem::path& aside,
                 const Log& log, std::vector<MendedTail>& out) {
  MUSTER_ASSIGN(const std::string bytes, read_file(file, kWalBytesMax));
  const auto cut = torn_tail(bytes);
  if (!cut) return ok_status();
  std::error_code error;
  MUSTER_TRY(make_directory(aside, 0700));
  std::filesystem::path copy = aside / file.filename();
  for (int n = 1; std::filesystem::exists(copy, error); ++n) {
    copy = aside / fmt::format("{}.{}", file.filename().string(), n);
  }
  MUSTER_TRY(write_file_atomic(copy, bytes, 0600, Durability::kFsync));
  MUSTER_TRY(sync_directory(aside.parent_path()));
  const UniqueFd fd(::open(file.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd || ftruncate(fd.get(), static_cast<off_t>(*cut)) != 0 || fsync(fd.get()) != 0) {
    return errno_status(errno, fmt::format("cannot cut {}", file.string()));
  }
  log->warn(
      "the last write to {} did not reach the disk entirely and was never acknowledged; dropped "
      "its {} bytes, a copy is {}",
      file.string(), bytes.size() - *cut, copy.string());
  out.push_back({file, std::move(copy)});
  return ok_status();
}

std::filesystem::path newest_wal(const std::filesystem::path& dir) {
  std::filesystem::path newest;
  std::error_code error;
  for (const auto& item : std::filesystem::directory_iterator(dir / "log", error)) {
    if (item.path().extension() == ".log" && item.path() > newest) newest = item.path();
  }
  return newest;
}

}  // namespace

bool ends_torn(const std::filesystem::path& dir) {
  const std::filesystem::path wal = newest_wal(dir);
  if (wal.empty()) return false;
  const auto bytes = read_file(wal, kWalBytesMax);
  return bytes && torn_tail(*bytes).has_value();
}

Result<std::vector<MendedTail>> mend_torn_tails(const std::filesystem::path& dir,
                                                const std::filesystem::path& aside,
                                                const Log& log) {
  const std::filesystem::path newest = newest_wal(dir);
  std::vector<MendedTail> out;
  if (!newest.empty()) MUSTER_TRY(mend_file(newest, aside, log, out));
  // RocksDB's list of files has the same format and is written by the same rule.
  auto current = read_file(dir / "log" / "CURRENT", 4096);
  if (current && current->starts_with("MANIFEST-") && current->ends_with("\n")) {
    current->pop_back();
    MUSTER_TRY(mend_file(dir / "log" / *current, aside, log, out));
  }
  return out;
}

Status unmend(const std::vector<MendedTail>& mended) {
  for (const MendedTail& tail : mended) {
    MUSTER_ASSIGN(const std::string bytes, read_file(tail.copy, kWalBytesMax));
    MUSTER_TRY(write_file_atomic(tail.file, bytes, 0600, Durability::kFsync));
  }
  return ok_status();
}

Result<UniqueFd> lock_directory(const std::filesystem::path& dir, bool create) {
  const std::filesystem::path file = dir / "lock";
  UniqueFd fd(::open(file.c_str(), O_RDWR | O_CLOEXEC | (create ? O_CREAT : 0), 0600));
  if (!fd && !create && errno == ENOENT) return UniqueFd();
  if (!fd) return fail(errno_status(errno, fmt::format("cannot open {}", file.string())));
  if (flock(fd.get(), LOCK_EX | LOCK_NB) == 0) return fd;
  if (errno != EWOULDBLOCK) return fail(errno_status(errno, file.string()));
  return fail(
      StatusCode::kFailedPrecondition,
      fmt::format("the log in {} is in use by another process (musterd is running)", dir.string()),
      "in-use");
}

}  // namespace muster::raft
