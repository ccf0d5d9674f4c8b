#include "raft/storage/log_inspection.h"

#include <algorithm>
#include <utility>

#include "raft/storage/key_ring.h"
#include "raft/storage/log_contents.h"
#include "raft/storage/log_db.h"
#include "raft/storage/snapshot_file.h"

namespace muster::raft {

LogInspection::LogInspection() = default;
LogInspection::~LogInspection() = default;

Result<std::unique_ptr<LogInspection>> LogInspection::open(const std::filesystem::path& dir,
                                                           std::optional<std::string> unlock_key) {
  std::error_code error;
  std::filesystem::directory_iterator probe(dir, error);
  if (error == std::errc::permission_denied) {
    return fail(permission_denied("cannot read {}: it is root's", dir.string()));
  }
  if (!LogDb::exists(dir)) {
    return fail(not_found("there is no manager's log in {}", dir.string()));
  }
  std::unique_ptr<LogInspection> out(new LogInspection());
  out->dir_ = dir;
  MUSTER_ASSIGN(out->lock_, lock_directory(dir, false));
  auto ring = KeyRing::load(dir / "log.key", std::move(unlock_key));
  if (!ring) return fail(ring.error().with_context("the log's key"));
  out->ring_ = *std::move(ring);
  MUSTER_ASSIGN(out->db_, LogDb::open(dir, LogDb::Mode::kReadOnly, nullptr));
  MUSTER_TRY(check_format(*out->db_, dir, false));
  MUSTER_ASSIGN(LogMeta meta, load_meta(*out->db_, *out->ring_));
  out->meta_ = std::make_unique<LogMeta>(std::move(meta));
  auto checked = check_contents(*out->db_, *out->ring_, *out->meta_, dir);
  if (!checked) out->damage_ = std::move(checked).error();
  const SnapshotMark& mark = out->snapshot();
  for (const auto& item : std::filesystem::directory_iterator(dir, error)) {
    std::string name = item.path().filename().string();
    if (!name.starts_with("snapshot-")) continue;
    const bool current = mark.index != 0 && name == snapshot_file_name(mark.index, mark.term);
    out->files_.push_back({std::move(name), item.file_size(error), current});
  }
  std::sort(out->files_.begin(), out->files_.end(),
            [](const SnapshotFile& a, const SnapshotFile& b) { return a.name < b.name; });
  return out;
}

const LogIdentity& LogInspection::identity() const {
  return ring_->identity();
}
const HardState& LogInspection::hard_state() const {
  return meta_->hard_state;
}
const SnapshotMark& LogInspection::snapshot() const {
  return meta_->manifest.mark;
}
Index LogInspection::first_index() const {
  return meta_->manifest.base_index + 1;
}
Index LogInspection::last_index() const {
  return meta_->mark.index;
}
Term LogInspection::last_term() const {
  return meta_->mark.term;
}
uint64_t LogInspection::steps() const {
  return meta_->mark.step;
}
size_t LogInspection::data_keys() const {
  return ring_->size();
}
bool LogInspection::wrapped() const {
  return ring_->wrapped();
}

Status LogInspection::entries(
    Index from, Index to,
    const std::function<void(const Entry& entry, size_t stored_bytes)>& visit) const {
  return read_entries(*db_, *ring_, *meta_, std::max(from, first_index()), to,
                      [&](const Entry& entry, size_t bytes) {
                        visit(entry, bytes);
                        return ok_status();
                      });
}

Result<LogInspection::SnapshotSize> LogInspection::read_snapshot() const {
  MUSTER_ASSIGN(const auto source,
                SnapshotFileReader::open(dir_, ring_, snapshot().index, snapshot().term));
  SnapshotSize size;
  while (true) {
    MUSTER_ASSIGN(const std::string chunk, source->next());
    if (chunk.empty()) return size;
    ++size.chunks;
    size.bytes += chunk.size();
  }
}

}  // namespace muster::raft
