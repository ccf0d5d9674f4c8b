#include "raft/storage/snapshot_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/file.h"
#include "base/rng.h"
#include "raft/storage/bytes.h"
#include "raft/storage/disk_reserve.h"

namespace muster::raft {
namespace {

constexpr std::string_view kMagic = "muster-snapshot 2\n";
constexpr size_t kNonceAt = kMagic.size() + 17;
constexpr size_t kNonceBytes = 16;
constexpr size_t kHeadBytes = kNonceAt + kNonceBytes;
constexpr std::string_view kChunk = "chunk";
constexpr std::string_view kEnd = "end";
constexpr uint64_t kPieceBytes = 1 << 20;

// Frames are bound to their file and their place in it.
std::string frame_aad(const KeyRing& ring, std::string_view kind, Index index, Term term,
                      std::string_view head, uint64_t frame) {
  std::string aad = ring.aad(kind, index, term).append(head);
  put_u64(aad, frame);
  return aad;
}

}  // namespace

std::string snapshot_file_name(Index index, Term term) {
  return fmt::format("snapshot-{:020}-{:020}", index, term);
}

// ---------------------------------------------------------------- writing

SnapshotFileWriter::SnapshotFileWriter(std::filesystem::path dir,
                                       std::shared_ptr<const KeyRing> ring, Index index, Term term,
                                       uint64_t free_bytes_min)
    : dir_(std::move(dir)),
      ring_(std::move(ring)),
      key_(ring_->current()),
      index_(index),
      term_(term),
      free_bytes_min_(free_bytes_min),
      // The same snapshot may be taken here and received at the same time.
      temporary_(dir_ /
                 fmt::format("{}.{}.tmp", snapshot_file_name(index, term), SystemRng().id())) {}

SnapshotFileWriter::~SnapshotFileWriter() {
  if (fd_) unlink(temporary_.c_str());
}

Result<std::unique_ptr<SnapshotSink>> SnapshotFileWriter::create(
    const std::filesystem::path& dir, std::shared_ptr<const KeyRing> ring, Index index, Term term,
    uint64_t free_bytes_min) {
  std::unique_ptr<SnapshotFileWriter> writer(
      new SnapshotFileWriter(dir, std::move(ring), index, term, free_bytes_min));
  MUSTER_TRY(writer->open());
  return writer;
}

Status SnapshotFileWriter::open() {
  fd_.reset(::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd_) return errno_status(errno, fmt::format("cannot create {}", temporary_.string()));
  head_ = kMagic;
  head_.push_back(static_cast<char>(key_->id()));
  put_u64(head_, index_);
  put_u64(head_, term_);
  SystemRng rng;
  put_u64(head_, rng.next());
  put_u64(head_, rng.next());
  return write_all(head_);
}

Status SnapshotFileWriter::write_all(std::string_view data) {
  while (!data.empty()) {
    const ssize_t n = ::write(fd_.get(), data.data(), data.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_status(errno, fmt::format("cannot write {}", temporary_.string()));
    data.remove_prefix(static_cast<size_t>(n));
    written_ += static_cast<size_t>(n);
  }
  return ok_status();
}

// To the disk by pieces, each when the one before is there: what the sync at the end found in the
// page cache would go there at once, and the log's own syncs would wait behind all of it.
Status SnapshotFileWriter::hand_over() {
  if (written_ - handed_over_ < kPieceBytes) return ok_status();
  const int result = sync_file_range(
      fd_.get(), static_cast<off_t>(handed_over_), static_cast<off_t>(written_ - handed_over_),
      SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
  // An error of the disk is told once: the sync would not hear of it any more.
  if (result != 0 && (errno == EIO || errno == ENOSPC || errno == EDQUOT)) {
    return errno_status(errno, fmt::format("cannot write {}", temporary_.string()));
  }
  handed_over_ = written_;
  return ok_status();
}

Status SnapshotFileWriter::add_frame(std::string_view kind, std::string_view chunk) {
  MUSTER_ASSIGN(const std::string sealed,
                key_->aead().seal(chunk, frame_aad(*ring_, kind, index_, term_, head_, frames_++)));
  std::string size;
  put_u32(size, static_cast<uint32_t>(sealed.size()));
  MUSTER_TRY(write_all(size));
  MUSTER_TRY(write_all(sealed));
  return hand_over();
}

Status SnapshotFileWriter::add(std::string_view chunk) {
  if (chunk.empty() || chunk.size() > kSnapshotChunkBytesMax) {
    return internal_error("a snapshot chunk of {} bytes", chunk.size());
  }
  MUSTER_TRY(check_free(dir_, free_bytes_min_ + chunk.size()));
  return add_frame(kChunk, chunk);
}

Status SnapshotFileWriter::finish() {
  MUSTER_TRY(add_frame(kEnd, {}));
  const std::filesystem::path path = dir_ / snapshot_file_name(index_, term_);
  if (fsync(fd_.get()) != 0 || rename(temporary_.c_str(), path.c_str()) != 0) {
    return errno_status(errno, fmt::format("cannot finish {}", path.string()));
  }
  fd_.reset();
  return sync_directory(dir_);
}

// ---------------------------------------------------------------- reading

SnapshotFileReader::SnapshotFileReader(std::filesystem::path file,
                                       std::shared_ptr<const KeyRing> ring, Index index, Term term)
    : file_(std::move(file)), ring_(std::move(ring)), index_(index), term_(term) {}

Result<std::unique_ptr<SnapshotSource>> SnapshotFileReader::open(
    const std::filesystem::path& dir, std::shared_ptr<const KeyRing> ring, Index index, Term term) {
  std::unique_ptr<SnapshotFileReader> reader(
      new SnapshotFileReader(dir / snapshot_file_name(index, term), std::move(ring), index, term));
  MUSTER_TRY(reader->read_head());
  return reader;
}

Status SnapshotFileReader::damaged() const {
  return Status(StatusCode::kDataLoss, fmt::format("snapshot {} is damaged", file_.string()),
                "log-corrupt");
}

Status SnapshotFileReader::read_head() {
  fd_.reset(::open(file_.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd_) return errno_status(errno, fmt::format("snapshot {}", file_.string()));
  MUSTER_ASSIGN(const bool whole, read_exactly(head_, kHeadBytes));
  if (!whole || !head_.starts_with(kMagic)) return damaged();
  key_ = ring_->find(static_cast<uint8_t>(head_[kMagic.size()]));
  if (key_ == nullptr || get_uint(head_, kMagic.size() + 1, 8) != index_ ||
      get_uint(head_, kMagic.size() + 9, 8) != term_) {
    return damaged();
  }
  return ok_status();
}

// False when the file ends before.
Result<bool> SnapshotFileReader::read_exactly(std::string& out, size_t bytes) {
  out.resize(bytes);
  size_t at = 0;
  while (at < bytes) {
    const ssize_t n = ::read(fd_.get(), out.data() + at, bytes - at);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail(errno_status(errno, fmt::format("cannot read {}", file_.string())));
    if (n == 0) return false;
    at += static_cast<size_t>(n);
  }
  return true;
}

Result<std::string> SnapshotFileReader::next() {
  if (ended_) return std::string();
  std::string sealed;
  MUSTER_ASSIGN(const bool sized, read_exactly(sealed, 4));
  if (!sized) return fail(damaged());
  const uint64_t size = get_uint(sealed, 0, 4);
  if (size > kSnapshotChunkBytesMax + security::Aead::kOverheadBytes) return fail(damaged());
  MUSTER_ASSIGN(const bool whole, read_exactly(sealed, size));
  if (!whole) return fail(damaged());
  const uint64_t frame = frames_++;
  const bool last = size == security::Aead::kOverheadBytes;  // chunks are not empty
  auto chunk = key_->aead().open(
      sealed, frame_aad(*ring_, last ? kEnd : kChunk, index_, term_, head_, frame));
  if (!chunk) return fail(damaged());
  ended_ = last;
  return chunk;
}

std::optional<uint8_t> snapshot_key_id(const std::filesystem::path& file) {
  const UniqueFd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  char head[kHeadBytes];
  if (!fd || ::pread(fd.get(), head, sizeof head, 0) != ssize_t{sizeof head}) return std::nullopt;
  return static_cast<uint8_t>(head[kMagic.size()]);
}

}  // namespace muster::raft
