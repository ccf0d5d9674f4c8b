#include "raft/storage/rocks_log_store.h"

#include <rocksdb/write_batch.h>
#include <time.h>

#include <algorithm>
#include <set>
#include <utility>

#include "base/file.h"
#include "raft/storage/bytes.h"
#include "raft/storage/log_contents.h"
#include "raft/storage/log_db.h"
#include "raft/storage/record.h"
#include "raft/storage/snapshot_file.h"

namespace muster::raft {
namespace {

int64_t monotonic_ns() {
  timespec ts{};
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return static_cast<int64_t>(ts.tv_sec) * 1'000'000'000 + ts.tv_nsec;
}

// Whether the watermark file knows of any step.
bool took_steps(const std::filesystem::path& dir) {
  const auto text = read_file(dir / "watermark", 4096);
  if (!text) return text.error().code() != StatusCode::kNotFound;
  const auto mark = decode_watermark(*text);
  return !mark || mark->step > 0;
}

// A log goes on after what an install replaced.
Chain chain_after_install(const Chain& before, const SnapshotMark& mark) {
  std::string text;
  put_u64(text, mark.index);
  put_u64(text, mark.term);
  text += encode_members(mark.members);
  return ChainHash().next(before, {text});
}

}  // namespace

// What the writer keeps in memory beside the log's own words.
struct LogUse {
  KeyUse keys;
  ChainHash hash;
};

// A write under preparation: the batch, and what is true once it is synced.
struct RocksLogStore::Step {
  explicit Step(const LogMeta& meta)
      : hard_state(meta.hard_state), mark(meta.mark), base_index(meta.manifest.base_index) {}

  rocksdb::WriteBatch batch{0, 0, 8, 0};  // 8: protection bytes per key
  HardState hard_state;
  Watermark mark;
  Index base_index;
  std::optional<Manifest> manifest;  // when it changes
  Index old_to = UINT64_MAX;         // entries of before this step that stay
  // The chains after the entries of this step, which end the log; the first is of `fresh_from`.
  Index fresh_from = 0;
  std::vector<Chain> fresh;
};

// ---------------------------------------------------------------- opening

RocksLogStore::RocksLogStore(Options options, UniqueFd lock)
    : options_(std::move(options)),
      lock_(std::move(lock)),
      reserve_(options_.dir, {options_.free_bytes_min, options_.reserve_bytes}, options_.log),
      meta_(std::make_unique<LogMeta>()),
      use_(std::make_unique<LogUse>()) {}

RocksLogStore::~RocksLogStore() {
  if (failed_.ok() && db_ != nullptr) save_watermark(true);
}

Result<std::unique_ptr<RocksLogStore>> RocksLogStore::open(Options options) {
  MUSTER_TRY(make_directory(options.dir, 0700));
  // Else a power cut might take all of it, whatever is synced inside.
  if (options.dir.has_parent_path()) MUSTER_TRY(sync_directory(options.dir.parent_path()));
  MUSTER_ASSIGN(UniqueFd lock, lock_directory(options.dir));
  std::unique_ptr<RocksLogStore> store(new RocksLogStore(std::move(options), std::move(lock)));
  store->reserve_.keep(true);
  remove_temporaries(store->options_.dir);
  if (Status opened = store->open_log(); !opened.ok()) {
    store->failed_ = opened;
    return fail(explain_damage(store->options_.dir, std::move(opened)));
  }
  return store;
}

// The key file comes last when a log is made: without it, and with nothing ever written, the making
// was interrupted and begins again.
Status RocksLogStore::open_log() {
  const std::filesystem::path& dir = options_.dir;
  const std::filesystem::path key_file = dir / "log.key";
  auto ring = KeyRing::load(key_file, options_.unlock_key);
  if (!ring && ring.error().code() == StatusCode::kNotFound) {
    if (!LogDb::exists(dir) && std::filesystem::exists(dir / "watermark")) {
      return data_loss("its entries and its key are gone");
    }
    return make_log();
  }
  if (!ring) return ring.error().with_context("the log's key");
  ring_ = *std::move(ring);
  if (!LogDb::exists(dir)) return data_loss("its key is there, but its entries are gone");
  const LogIdentity& mine = ring_->identity();
  const LogIdentity& asked = options_.identity;
  if ((!asked.cluster_id.empty() && asked.cluster_id != mine.cluster_id) ||
      (!asked.node_id.empty() && asked.node_id != mine.node_id) ||
      (asked.member && asked.member != mine.member)) {
    return Status(StatusCode::kFailedPrecondition,
                  fmt::format("the log in {} belongs to node \"{}\" (member {:x}) of cluster "
                              "\"{}\", not to node \"{}\" (member {:x}) of cluster \"{}\"",
                              dir.string(), mine.node_id, mine.member.value, mine.cluster_id,
                              asked.node_id, asked.member.value, asked.cluster_id),
                  "foreign-log");
  }
  return load();
}

Status RocksLogStore::make_log() {
  const std::filesystem::path& dir = options_.dir;
  auto db = LogDb::open(dir, LogDb::Mode::kReadWrite, options_.env);
  if (!db && db.error().code() == StatusCode::kDataLoss && !took_steps(dir)) {
    // Interrupted by a power cut in the middle of it.
    std::error_code error;
    std::filesystem::remove_all(dir / "log", error);
    db = LogDb::open(dir, LogDb::Mode::kReadWrite, options_.env);
  }
  if (!db) return std::move(db).error();
  db_ = *std::move(db);
  MUSTER_TRY(check_format(*db_, dir, true));
  MUSTER_ASSIGN(const std::string durable, db_->get(*db_->meta, kKeyDurable));
  if (!durable.empty()) {
    MUSTER_ASSIGN(const Watermark mark, decode_watermark(durable));
    if (mark.step > 0) {
      return not_found(
          "the log in {} has no key: {} is missing, and without it nothing in the log "
          "can be read",
          dir.string(), (dir / "log.key").string());
    }
  }
  rocksdb::WriteBatch batch;
  batch.Put(db_->meta.get(), slice(kKeyFormat), slice(kFormat));
  batch.Put(db_->meta.get(), slice(kKeyDurable), encode_watermark(meta_->mark));
  MUSTER_TRY(db_->write(batch));
  save_watermark(true);
  MUSTER_TRY(sync_directory(dir));
  MUSTER_ASSIGN(ring_, KeyRing::create(dir / "log.key", options_.identity, options_.unlock_key));
  return ok_status();
}

// Looks at everything before anything is changed: opening for writing already would.
Status RocksLogStore::load() {
  const std::filesystem::path& dir = options_.dir;
  bool opened = false;
  const auto look = [&]() -> Status {
    MUSTER_ASSIGN(const auto db, LogDb::open(dir, LogDb::Mode::kReadOnly, options_.env));
    opened = true;
    MUSTER_TRY(check_format(*db, dir, false));
    MUSTER_ASSIGN(*meta_, load_meta(*db, *ring_));
    MUSTER_ASSIGN(use_->keys, check_contents(*db, *ring_, *meta_, dir));
    return ok_status();
  };
  Status looked = look();
  if (!opened && looked.code() == StatusCode::kDataLoss) {
    MUSTER_ASSIGN(const auto mended, mend_torn_tails(dir, dir / "damaged", options_.log));
    if (!mended.empty()) {
      looked = look();
      if (!looked.ok()) MUSTER_TRY(unmend(mended));
    }
  }
  MUSTER_TRY(looked);
  MUSTER_ASSIGN(db_, LogDb::open(dir, LogDb::Mode::kReadWrite, options_.env));
  sweep_snapshots(true);
  drop_keys();
  save_watermark(true);
  return ok_status();
}

// ---------------------------------------------------------------- reading

const HardState& RocksLogStore::hard_state() const {
  return meta_->hard_state;
}
const SnapshotMark& RocksLogStore::snapshot() const {
  return meta_->manifest.mark;
}
Index RocksLogStore::first_index() const {
  return meta_->manifest.base_index + 1;
}
Index RocksLogStore::last_index() const {
  return meta_->mark.index;
}
Term RocksLogStore::last_term() const {
  return meta_->mark.term;
}

Result<Restored> RocksLogStore::restore() const {
  Restored out{meta_->hard_state, meta_->manifest.mark, {}, meta_->manifest.base_term};
  out.entries.reserve(last_index() + 1 - first_index());
  Status read =
      read_entries(*db_, *ring_, *meta_, first_index(), last_index(), [&](Entry entry, size_t) {
        out.entries.push_back(std::move(entry));
        return ok_status();
      });
  if (!read.ok()) return fail(explain_damage(options_.dir, std::move(read)));
  return out;
}

// ---------------------------------------------------------------- writing

// On a full disk the reserve is given up when it is needed: for term and vote, and for entries that
// were accepted before (`accepted`), so that nothing waits behind them.
Status RocksLogStore::make_room(bool accepted) {
  if (reserve_.room() != DiskRoom::kFull) return ok_status();
  reserve_.keep();
  return accepted ? reserve_.check_accepted() : ok_status();
}

Status RocksLogStore::stage_install(Step& step, const SnapshotMark& mark) const {
  MUSTER_TRY(check_mark(mark));
  Manifest next;
  next.mark = mark;
  next.base_index = mark.index;
  next.base_term = mark.term;
  next.base_chain = chain_after_install(step.mark.chain, mark);
  step.batch.DeleteRange(db_->log.get(), index_key(0),
                         index_key(std::max(step.mark.index, mark.index) + 1));
  step.mark.index = mark.index;
  step.mark.term = mark.term;
  step.mark.chain = next.base_chain;
  step.base_index = mark.index;
  step.old_to = 0;
  step.fresh.clear();
  step.manifest = std::move(next);
  return ok_status();
}

Status RocksLogStore::stage_entries(Step& step, const std::vector<Entry>& entries) const {
  if (entries.empty()) return ok_status();
  const Index first = entries.front().index;
  if (first <= step.base_index) {
    return internal_error("entry {} is part of what the snapshot stands for", first);
  }
  if (first <= step.mark.index) {
    // Replaces the end of the log, in the same write as what takes its place.
    const bool of_this_step = !step.fresh.empty() && first > step.fresh_from;
    if (of_this_step) {
      step.fresh.resize(first - step.fresh_from);
      step.mark.chain = step.fresh.back();
    } else if (step.manifest && first == step.base_index + 1) {
      step.mark.chain = step.manifest->base_chain;
      step.fresh.clear();
    } else {
      MUSTER_ASSIGN(step.mark.chain, chain_before(*db_, *meta_, first));
      step.fresh.clear();
    }
    step.batch.DeleteRange(db_->log.get(), index_key(first), index_key(step.mark.index + 1));
    step.mark.index = first - 1;
    step.old_to = std::min(step.old_to, first - 1);
  }
  if (step.fresh.empty()) step.fresh_from = step.mark.index + 1;
  const auto key = ring_->current();
  for (const Entry& entry : entries) {
    if (entry.index != step.mark.index + 1) {
      return internal_error("entry {} does not follow entry {}", entry.index, step.mark.index);
    }
    MUSTER_ASSIGN(const Record record, encode_record(*ring_, *key, entry, step.mark.chain));
    step.mark.chain = use_->hash.next(step.mark.chain, {record.head, record.sealed});
    step.mark.index = entry.index;
    step.mark.term = entry.term;
    step.fresh.push_back(step.mark.chain);
    const std::string at = index_key(entry.index);
    const rocksdb::Slice name = slice(at);
    const rocksdb::Slice parts[] = {slice(record.head), slice(record.sealed)};
    step.batch.Put(db_->log.get(), rocksdb::SliceParts(&name, 1), rocksdb::SliceParts(parts, 2));
  }
  return ok_status();
}

// One synced write; what was true before stays true when it fails.
Status RocksLogStore::commit(Step& step) {
  if (!(step.hard_state == meta_->hard_state)) {
    step.batch.Put(db_->meta.get(), slice(kKeyHardState), encode_hard_state(step.hard_state));
  }
  if (step.manifest) {
    const auto key = ring_->current();
    step.manifest->key_id = key->id();
    MUSTER_ASSIGN(const std::string bytes, encode_manifest(*ring_, *key, *step.manifest));
    step.batch.Put(db_->snap.get(), slice(kKeySnapshot), bytes);
  }
  ++step.mark.step;
  step.batch.Put(db_->meta.get(), slice(kKeyDurable), encode_watermark(step.mark));
  failed_ = db_->write(step.batch);
  MUSTER_TRY(failed_);
  meta_->hard_state = step.hard_state;
  meta_->mark = step.mark;
  for (auto& [id, last] : use_->keys) last = std::min(last, step.old_to);
  if (!step.fresh.empty()) use_->keys[ring_->current()->id()] = step.mark.index;
  if (step.manifest) meta_->manifest = *std::move(step.manifest);
  save_watermark(false);
  return ok_status();
}

Status RocksLogStore::write(const std::vector<const Write*>& writes) {
  MUSTER_TRY(failed_);
  MUSTER_TRY(make_room(std::any_of(writes.begin(), writes.end(),
                                   [](const Write* write) { return needs_room(*write); })));
  Step step(*meta_);
  for (const Write* write : writes) {
    if (write->hard_state) step.hard_state = *write->hard_state;
    if (write->install) MUSTER_TRY(stage_install(step, *write->install));
    MUSTER_TRY(stage_entries(step, write->entries));
  }
  const bool installed = step.manifest.has_value();
  const Index had = meta_->mark.index;
  MUSTER_TRY(commit(step));
  if (installed) after_snapshot(std::max(had, meta_->manifest.base_index));
  return ok_status();
}

// ---------------------------------------------------------------- snapshots

// Whether the snapshot lies there complete.
Status RocksLogStore::check_mark(const SnapshotMark& mark) const {
  const auto file = open_snapshot(mark.index, mark.term);
  return file ? ok_status() : file.error().with_context("a snapshot that is not there yet");
}

Result<std::unique_ptr<SnapshotSink>> RocksLogStore::create_snapshot(Index index, Term term) {
  return SnapshotFileWriter::create(options_.dir, ring_, index, term, options_.free_bytes_min / 2);
}

Result<std::unique_ptr<SnapshotSource>> RocksLogStore::open_snapshot(Index index, Term term) const {
  return SnapshotFileReader::open(options_.dir, ring_, index, term);
}

Status RocksLogStore::set_snapshot(const SnapshotMark& mark, Index keep_from) {
  MUSTER_TRY(failed_);
  bool fits = mark.index > snapshot().index && mark.index <= last_index();
  if (fits) {
    MUSTER_ASSIGN(const Term term, term_of(*db_, *meta_, mark.index));
    fits = term == mark.term;
  }
  if (!fits) {
    sweep_snapshots(false);
    return failed_precondition(
        "a snapshot at entry {} of term {} does not fit a log of {} to {} after one at {}",
        mark.index, mark.term, first_index(), last_index(), snapshot().index);
  }
  MUSTER_TRY(check_mark(mark));
  Step step(*meta_);
  Manifest next = meta_->manifest;
  next.mark = mark;
  const Index base =
      std::clamp(keep_from - std::min<Index>(keep_from, 1), next.base_index, mark.index);
  if (base > next.base_index) {
    MUSTER_ASSIGN(next.base_term, term_of(*db_, *meta_, base));
    MUSTER_ASSIGN(next.base_chain, chain_before(*db_, *meta_, base + 1));
    next.base_index = base;
    step.batch.DeleteRange(db_->log.get(), index_key(0), index_key(base + 1));
  }
  step.manifest = std::move(next);
  MUSTER_TRY(commit(step));
  after_snapshot(base);
  return ok_status();
}

void RocksLogStore::after_snapshot(Index dropped_to) {
  db_->reclaim(dropped_to);
  sweep_snapshots(false);
  if (last_index() - std::min(last_index(), ring_->current()->since()) >=
      options_.entries_per_key) {
    if (Status rotated = rotate_data_key(); !rotated.ok()) {
      options_.log->warn("cannot change the log's data key: {}", rotated.message());
    }
  }
  drop_keys();
}

// Removes snapshots that were replaced; with `all` also those that were never named or never
// finished, which may be under way later on.
void RocksLogStore::sweep_snapshots(bool all) {
  const SnapshotMark& mark = meta_->manifest.mark;
  const std::string named = mark.index == 0 ? "" : snapshot_file_name(mark.index, mark.term);
  const std::string newest = snapshot_file_name(mark.index, UINT64_MAX);
  std::error_code error;
  for (const auto& item : std::filesystem::directory_iterator(options_.dir, error)) {
    const std::string name = item.path().filename().string();
    if (!name.starts_with("snapshot-") || name == named) continue;
    const bool replaced = !name.ends_with(".tmp") && name <= newest;
    if (all || replaced) std::filesystem::remove(item.path(), error);
  }
}

// ---------------------------------------------------------------- keys

Status RocksLogStore::rotate_data_key() {
  MUSTER_TRY(failed_);
  return ring_->rotate(last_index());
}

Status RocksLogStore::rewrap(const std::optional<std::string>& unlock_key) {
  return ring_->rewrap(unlock_key);
}

void RocksLogStore::drop_keys() {
  if (ring_->size() == 1) return;
  std::set<uint8_t> needed;
  std::erase_if(use_->keys, [&](const auto& use) { return use.second < first_index(); });
  for (const auto& [id, last] : use_->keys) needed.insert(id);
  if (meta_->manifest.mark.index != 0) needed.insert(meta_->manifest.key_id);
  std::error_code error;
  for (const auto& item : std::filesystem::directory_iterator(options_.dir, error)) {
    if (!item.path().filename().string().starts_with("snapshot-")) continue;
    if (const auto id = snapshot_key_id(item.path())) needed.insert(*id);
  }
  if (error) return;
  if (Status kept = ring_->retain(needed); !kept.ok()) {
    options_.log->warn("cannot forget the log's old data keys: {}", kept.message());
  }
}

// ---------------------------------------------------------------- the second watermark

void RocksLogStore::settle() {
  if (!failed_.ok()) return;
  reserve_.keep();
  save_watermark(true);
}

// At most once a second, unless `now`. Losing this copy costs detection, not data.
void RocksLogStore::save_watermark(bool now) {
  if (now && saved_ns_ != 0 && saved_step_ == meta_->mark.step) return;
  const int64_t time = monotonic_ns();
  if (!now && time - saved_ns_ < 1'000'000'000) return;
  saved_ns_ = time;
  const Status status = write_file_atomic(options_.dir / "watermark", encode_watermark(meta_->mark),
                                          0600, Durability::kFsync);
  if (!status.ok()) {
    options_.log->warn("cannot save the log's watermark: {}", status.message());
    return;
  }
  saved_step_ = meta_->mark.step;
}

Result<std::filesystem::path> set_log_aside(const std::filesystem::path& dir) {
  MUSTER_ASSIGN(const UniqueFd lock, lock_directory(dir));
  std::error_code error;
  for (int n = 1;; ++n) {
    std::filesystem::path aside = dir;
    aside += fmt::format(".damaged-{}", n);
    if (std::filesystem::exists(aside, error)) continue;
    std::filesystem::rename(dir, aside, error);
    if (error) {
      return fail(errno_status(error.value(), fmt::format("cannot move {} aside", dir.string())));
    }
    MUSTER_TRY(sync_directory(aside.parent_path()));
    return aside;
  }
}

}  // namespace muster::raft
