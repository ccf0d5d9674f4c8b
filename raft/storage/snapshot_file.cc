#include "raft/storage/snapshot_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/file.h"
#include "raft/storage/bytes.h"

namespace muster::raft {
namespace {

constexpr std::string_view kHead = "muster-snapshot 1\n";
constexpr std::string_view kChunk = "chunk";
constexpr std::string_view kEnd = "end";

}  // namespace

SnapshotFileWriter::SnapshotFileWriter(std::filesystem::path dir, DataKey key, uint64_t index,
                                       UniqueFd fd)
    : dir_(std::move(dir)), key_(std::move(key)), index_(index), fd_(std::move(fd)) {}

SnapshotFileWriter::~SnapshotFileWriter() {
  if (fd_) unlink(temporary().c_str());
}

std::string SnapshotFileWriter::name() const {
  return fmt::format("snapshot-{:020}", index_);
}
std::filesystem::path SnapshotFileWriter::temporary() const {
  return dir_ / (name() + ".tmp");
}

Result<SnapshotFileWriter> SnapshotFileWriter::create(const std::filesystem::path& dir,
                                                      const DataKey& key, uint64_t index) {
  SnapshotFileWriter writer(dir, key, index, UniqueFd());
  const std::string path = writer.temporary().string();
  writer.fd_.reset(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!writer.fd_) return fail(errno_status(errno, fmt::format("cannot create {}", path)));
  MUSTER_TRY(writer.write_all(kHead));
  return writer;
}

Status SnapshotFileWriter::write_all(std::string_view data) {
  while (!data.empty()) {
    const ssize_t n = ::write(fd_.get(), data.data(), data.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_status(errno, fmt::format("cannot write {}", temporary().string()));
    data.remove_prefix(static_cast<size_t>(n));
  }
  return ok_status();
}

Status SnapshotFileWriter::add_frame(std::string_view kind, std::string_view chunk) {
  MUSTER_ASSIGN(const std::string sealed,
                key_.aead().seal(chunk, key_.aad(kind, index_, frames_++)));
  std::string frame;
  put_u32(frame, static_cast<uint32_t>(sealed.size()));
  return write_all(frame.append(sealed));
}

Status SnapshotFileWriter::add(std::string_view chunk) {
  if (chunk.size() > kSnapshotChunkBytesMax) {
    return internal_error("a snapshot chunk of {} bytes", chunk.size());
  }
  return add_frame(kChunk, chunk);
}

Result<std::string> SnapshotFileWriter::finish() {
  MUSTER_TRY(add_frame(kEnd, {}));
  const std::filesystem::path path = dir_ / name();
  if (fsync(fd_.get()) != 0 || rename(temporary().c_str(), path.c_str()) != 0) {
    return fail(errno_status(errno, fmt::format("cannot finish {}", path.string())));
  }
  fd_.reset();
  MUSTER_TRY(sync_directory(dir_));
  return name();
}

Status read_snapshot(const std::filesystem::path& file, const DataKey& key, uint64_t index,
                     const std::function<Status(std::string chunk)>& visit) {
  const UniqueFd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return data_loss("cannot open snapshot {}: it is part of the log", file.string());
  const auto damaged = [&] { return data_loss("snapshot {} is damaged", file.string()); };
  const auto read_exactly = [&](std::string& out, size_t bytes) {
    out.resize(bytes);
    size_t at = 0;
    while (at < bytes) {
      const ssize_t n = ::read(fd.get(), out.data() + at, bytes - at);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return false;
      at += static_cast<size_t>(n);
    }
    return true;
  };
  std::string buffer;
  if (!read_exactly(buffer, kHead.size()) || buffer != kHead) return damaged();
  for (uint64_t frame = 0;; ++frame) {
    if (!read_exactly(buffer, 4)) return damaged();
    const uint64_t size = get_uint(buffer, 0, 4);
    if (size > kSnapshotChunkBytesMax + security::Aead::kOverheadBytes ||
        !read_exactly(buffer, size)) {
      return damaged();
    }
    auto chunk = key.aead().open(buffer, key.aad(kChunk, index, frame));
    if (!chunk) {
      if (key.aead().open(buffer, key.aad(kEnd, index, frame))) return ok_status();
      return damaged();
    }
    MUSTER_TRY(visit(*std::move(chunk)));
  }
}

}  // namespace muster::raft
