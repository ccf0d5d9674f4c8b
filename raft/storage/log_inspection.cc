#include "raft/storage/log_inspection.h"

#include <algorithm>
#include <utility>

#include "raft/storage/bytes.h"
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
  if (!is_log(dir)) {
    return fail(not_found("there is no manager's log in {}", dir.string()));
  }
  std::unique_ptr<LogInspection> out(new LogInspection());
  out->dir_ = dir;
  MUSTER_ASSIGN(out->lock_, lock_directory(dir, false));
  auto ring = KeyRing::load(dir / "log.key", std::move(unlock_key));
  if (!ring) return fail(ring.error().with_context("the log's key"));
  out->ring_ = *std::move(ring);
  out->open_database();
  if (out->db_ != nullptr) {
    const Status format = check_format(*out->db_, dir, false);
    if (format.code() == StatusCode::kFailedPrecondition) return fail(format);
    out->note(format);
  }
  out->read_facts();
  out->list_files();
  return out;
}

bool LogInspection::is_log(const std::filesystem::path& dir) {
  std::error_code error;
  return LogDb::exists(dir) || std::filesystem::exists(dir / "log.key", error);
}

// What one finding says belongs to what the next one says.
void LogInspection::note(const Status& damage) {
  if (damage.ok()) return;
  damage_ = damage_.ok() ? damage : data_loss("{}; {}", damage_.message(), damage.message());
}

void LogInspection::open_database() {
  if (!LogDb::exists(dir_)) return note(data_loss("its entries are gone"));
  auto whole = LogDb::open(dir_, LogDb::Mode::kReadOnly, nullptr);
  if (whole) {
    db_ = *std::move(whole);
    return;
  }
  note(ends_torn(dir_) ? data_loss("its last write did not reach the disk entirely: the next start "
                                   "drops it, if it was never acknowledged")
                       : whole.error());
  auto rest = LogDb::open(dir_, LogDb::Mode::kSalvage, nullptr);
  if (!rest) return;
  db_ = *std::move(rest);
  if (!ends_torn(dir_)) note(data_loss("what was written after that is not shown"));
}

void LogInspection::read_facts() {
  meta_ = std::make_unique<LogMeta>();
  if (db_ != nullptr) {
    const auto take = [this](auto result, auto& value) {
      if (!result) note(result.error());
      if (result) value = *std::move(result);
      return result.has_value();
    };
    known_.hard_state = take(load_hard_state(*db_), meta_->hard_state);
    known_.snapshot = take(load_manifest(*db_, *ring_), meta_->manifest);
    known_.end = take(load_watermark(*db_), meta_->mark);
  }
  if (known_.hard_state && known_.snapshot && known_.end) {
    const auto checked = check_contents(*db_, *ring_, *meta_, dir_);
    if (!checked) note(checked.error());
  }
  if (known_.end) return;
  if (const auto mark = load_watermark_file(dir_)) {
    meta_->mark = *mark;
    known_.end = true;
  }
}

void LogInspection::list_files() {
  std::error_code error;
  for (const auto& item : std::filesystem::directory_iterator(dir_, error)) {
    std::string name = item.path().filename().string();
    if (!name.starts_with("snapshot-")) continue;
    const bool current =
        snapshot().index != 0 && name == snapshot_file_name(snapshot().index, snapshot().term);
    files_.push_back({std::move(name), item.file_size(error), current});
  }
  std::sort(files_.begin(), files_.end(),
            [](const SnapshotFile& a, const SnapshotFile& b) { return a.name < b.name; });
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

Status LogInspection::entries(Index from, Index to,
                              const std::function<void(const Entry&, size_t)>& visit,
                              const std::function<void(const Status&)>& trouble) const {
  if (db_ == nullptr) return ok_status();  // which damage() says
  Status first;
  const auto tell = [&](const Status& what) {
    if (what.ok()) return;
    if (first.ok()) first = what;
    if (trouble) trouble(what);
  };
  const auto missing = [&](Index begin, Index end) {
    if (begin == end) return tell(data_loss("log entry {} is missing", begin));
    if (begin < end) tell(data_loss("log entries {} to {} are missing", begin, end));
  };
  Index next = std::max(from, first_index());
  std::optional<Chain> chain;  // of the entry before `next`, where it is known
  if (known_.snapshot && next == first_index()) chain = meta_->manifest.base_chain;
  ChainHash hash;
  const std::unique_ptr<rocksdb::Iterator> it(db_->db->NewIterator({}, db_->log.get()));
  for (it->Seek(index_key(next)); it->Valid() && it->key().size() == 8; it->Next()) {
    const std::string_view bytes(it->value().data(), it->value().size());
    const Index index = get_uint({it->key().data(), it->key().size()}, 0, 8);
    if (index > to) break;
    if (index != next) {
      missing(next, index - 1);
      chain.reset();
    }
    const auto head = read_head(bytes);
    if (!chain && head) chain = head->previous;
    // One that does not follow the one before is shown if it decrypts, and told.
    const auto entry = decode_record(*ring_, index, bytes, head ? head->previous : kNoChain);
    if (!entry) {
      tell(entry.error());
    } else {
      if (head->previous != *chain)
        tell(data_loss("log entry {} does not follow the one before", index));
      visit(*entry, bytes.size());
    }
    chain = entry ? std::optional(hash.next(head->previous, {bytes})) : std::nullopt;
    next = index + 1;
  }
  tell(from_rocksdb(it->status(), "cannot read the log"));
  if (known_.end) missing(next, std::min(to, last_index()));
  return first;
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
