#include "raft/node/chunk_frames.h"

#include <utility>

#include "raft/storage/bytes.h"

namespace muster::raft {
namespace {

constexpr size_t kLengthBytes = 4;

}  // namespace

Result<std::string> FramedReader::next() {
  if (chunks_ == nullptr) {
    MUSTER_ASSIGN(chunks_, disk_.open_snapshot(index_, term_));
  }
  MUSTER_ASSIGN(const std::string chunk, chunks_->next());
  if (chunk.empty()) return chunk;
  std::string framed;
  framed.reserve(kLengthBytes + chunk.size());
  put_u32(framed, static_cast<uint32_t>(chunk.size()));
  return framed.append(chunk);
}

FramedWriter::FramedWriter(std::unique_ptr<SnapshotSink> chunks,
                           std::shared_ptr<std::atomic<bool>> busy)
    : chunks_(std::move(chunks)), busy_(std::move(busy)) {}

Status FramedWriter::write(std::string_view piece) {
  rest_.append(piece);
  size_t at = 0;
  while (rest_.size() - at >= kLengthBytes) {
    const size_t length = get_uint(rest_, at, kLengthBytes);
    if (length == 0 || length > kSnapshotChunkBytesMax) {
      return data_loss("a snapshot announces a chunk of {} bytes", length);
    }
    if (rest_.size() - at - kLengthBytes < length) break;
    MUSTER_TRY(chunks_->add(std::string_view(rest_).substr(at + kLengthBytes, length)));
    at += kLengthBytes + length;
  }
  rest_.erase(0, at);
  return ok_status();
}

Status FramedWriter::finish() {
  if (!rest_.empty()) return data_loss("a snapshot ends in the middle of a chunk");
  return chunks_->finish();
}

}  // namespace muster::raft
