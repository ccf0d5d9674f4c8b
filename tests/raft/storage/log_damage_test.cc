// Damage: a torn end is told from lost data, and what is lost is refused in words.
#include <rocksdb/write_batch.h>

#include "raft/storage/log_db.h"
#include "raft/storage/log_inspection.h"
#include "raft/storage/wal_tail.h"
#include "tests/raft/storage/store_fixture.h"

namespace muster::raft {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class LogDamageTest : public StoreFixture {
 protected:
  void expect_corrupt(const std::string& why) {
    const Status status = refused();
    EXPECT_EQ(status.code(), StatusCode::kDataLoss) << status.to_string();
    EXPECT_EQ(status.reason(), "log-corrupt");
    EXPECT_THAT(status.message(), HasSubstr("is CORRUPT"));
    EXPECT_THAT(status.message(), HasSubstr("must not vote again"));
    EXPECT_THAT(status.message(), HasSubstr(why));
  }
  // Names and contents of everything but the lock.
  std::map<std::string, std::string> contents() const {
    std::map<std::string, std::string> out;
    for (const auto& item : fs::recursive_directory_iterator(dir / "raft")) {
      if (item.is_regular_file()) out[item.path().string()] = *read_file(item.path());
    }
    return out;
  }
  // "a" and "b" in writes of their own, as a kill left it; the watermark file is of before "a".
  void two_entries() {
    auto store = open();
    ASSERT_TRUE(add(*store, 1, 1, {"a"}).ok());
    ASSERT_TRUE(add(*store, 2, 1, {std::string(300, 'b')}).ok());
    copy();
  }
};

// A power cut in the middle of the last write: the entry was not acknowledged, the log goes on.
TEST_F(LogDamageTest, B34_ATornTailIsDropped) {
  two_entries();
  put_copy_back();
  fs::resize_file(wal(), fs::file_size(wal()) - 7);
  {
    auto store = open();
    ASSERT_NE(store, nullptr);
    EXPECT_THAT(texts(*store), ElementsAre("1:1:a"));
    ASSERT_TRUE(add(*store, 2, 2, {"again"}).ok());
  }
  EXPECT_THAT(texts(*open()), ElementsAre("1:1:a", "2:2:again"));
}

// The same, but the file has its length already and pages of the write are missing.
TEST_F(LogDamageTest, B34_ATailWithMissingPagesIsDroppedAndACopyKept) {
  two_entries();
  put_copy_back();
  const std::string before = *read_file(wal());
  flip(wal(), fs::file_size(wal()) - 100);
  const std::string torn = *read_file(wal());
  const fs::path file = wal().filename();
  {
    auto store = open();
    ASSERT_NE(store, nullptr);
    EXPECT_THAT(texts(*store), ElementsAre("1:1:a"));
    ASSERT_TRUE(add(*store, 2, 2, {"again"}).ok());
  }
  EXPECT_EQ(*read_file(dir / "raft/damaged" / file), torn);
  EXPECT_THAT(texts(*open()), ElementsAre("1:1:a", "2:2:again"));
}

// The same cuts below the watermark file: acknowledged data is gone, and that is said.
TEST_F(LogDamageTest, B34_ALossBelowTheWatermarkIsRefused) {
  for (const bool cut : {true, false}) {
    fs::remove_all(dir / "raft");
    two_entries();  // the orderly end saves the watermark
    fs::copy_file(dir / "raft/watermark", dir / "copy/watermark",
                  fs::copy_options::overwrite_existing);
    put_copy_back();
    if (cut) {
      fs::resize_file(wal(), fs::file_size(wal()) - 7);
    } else {
      flip(wal(), fs::file_size(wal()) - 100);
    }
    const auto before = contents();
    expect_corrupt("number 2, up to entry 2, was acknowledged");
    fs::remove_all(dir / "raft/damaged");
    auto after = contents();
    EXPECT_EQ(after, before) << "nothing refused is changed";
  }
}

// A term or vote that is gone is as bad as an entry: it could vote twice.
TEST_F(LogDamageTest, B10_ALostVoteIsRefused) {
  {
    auto store = open();
    Write first;
    first.hard_state = HardState{1, {1}};
    ASSERT_TRUE(store->write({&first}).ok());
    copy();
    Write second;
    second.hard_state = HardState{2, {2}};
    ASSERT_TRUE(store->write({&second}).ok());
  }
  fs::copy_file(dir / "raft/watermark", dir / "copy/watermark",
                fs::copy_options::overwrite_existing);
  put_copy_back();
  expect_corrupt("was acknowledged");
}

TEST_F(LogDamageTest, AFlippedBitInAnEarlierRecordIsRefused) {
  {
    auto store = open();
    for (Index i = 1; i <= 20; ++i) {
      ASSERT_TRUE(add(*store, i, 1, {std::string(500, 'x')}).ok());
    }
    copy();
  }
  put_copy_back();
  const auto before = contents();
  flip(wal(), fs::file_size(wal()) / 2);
  expect_corrupt("cannot open the log");
  EXPECT_EQ(contents().size(), before.size());
}

TEST_F(LogDamageTest, AFlippedBitInATableIsRefused) {
  {
    auto store = open();
    for (Index i = 1; i <= 20; ++i) {
      ASSERT_TRUE(add(*store, i, 1, {std::string(5000, 'x')}).ok());
    }
  }
  open();  // writes the tables
  fs::path table;
  for (const auto& item : fs::directory_iterator(dir / "raft/log")) {
    if (item.path().extension() == ".sst" &&
        (table.empty() || item.file_size() > fs::file_size(table))) {
      table = item.path();
    }
  }
  ASSERT_GT(fs::file_size(table), 50'000U);
  flip(table, fs::file_size(table) / 2);
  expect_corrupt("");
}

TEST_F(LogDamageTest, MissingPartsAreNamed) {
  {
    auto store = open();
    ASSERT_TRUE(add(*store, 1, 1, {"a", "b"}).ok());
    ASSERT_TRUE(snapshot(*store, 1, 1, 2).ok());
  }
  const fs::path file = dir / "raft" / snapshot_files().front();
  fs::rename(file, dir / "away");
  expect_corrupt("snapshot-00000000000000000001-00000000000000000001 is missing");
  fs::rename(dir / "away", file);
  fs::rename(dir / "raft/log", dir / "away");
  expect_corrupt("its entries are gone");
  fs::rename(dir / "raft/log.key", dir / "key");
  expect_corrupt("its entries and its key are gone");
  fs::rename(dir / "away", dir / "raft/log");
  EXPECT_EQ(refused().code(), StatusCode::kNotFound) << "never a fresh key for an old log";
  EXPECT_THAT(refused().message(), HasSubstr("log.key is missing"));
  fs::rename(dir / "key", dir / "raft/log.key");
  EXPECT_THAT(texts(*open()), ElementsAre("2:1:b"));
}

TEST_F(LogDamageTest, ADamagedSnapshotIsFoundWhenItIsRead) {
  auto store = open();
  ASSERT_TRUE(add(*store, 1, 1, {"a"}).ok());
  auto sink = *store->create_snapshot(1, 1);
  for (const char* chunk : {"first", "second", "third"}) ASSERT_TRUE(sink->add(chunk).ok());
  EXPECT_FALSE(sink->add("").ok());
  ASSERT_TRUE(sink->finish().ok());
  ASSERT_TRUE(store->set_snapshot({1, 1, {}}, 2).ok());
  const fs::path file = dir / "raft" / snapshot_files().front();
  const std::string good = *read_file(file);
  EXPECT_EQ(state_of(*store), "firstsecondthird");
  for (size_t at = 0; at < good.size(); ++at) {
    std::ofstream(file, std::ios::binary | std::ios::trunc) << good;
    flip(file, at);
    EXPECT_THAT(state_of(*store), HasSubstr("is damaged")) << "byte " << at;
    fs::resize_file(file, at);
    EXPECT_THAT(state_of(*store), HasSubstr("is damaged")) << "cut at " << at;
  }
  // Frames of another snapshot of the same moment do not fit in.
  ASSERT_TRUE(lay(*store, 1, 1, "first").ok());
  const std::string other = *read_file(file);
  const size_t head = 51;
  const size_t frame = 4 + security::Aead::kOverheadBytes + 5;
  std::ofstream(file, std::ios::binary | std::ios::trunc)
      << good.substr(0, head) << other.substr(head, frame) << good.substr(head + frame);
  EXPECT_THAT(state_of(*store), HasSubstr("is damaged"));
}

TEST_F(LogDamageTest, NothingIsReadableOnDisk) {
  const std::string secret = "correct horse battery staple";
  {
    auto store = open();
    ASSERT_TRUE(add(*store, 1, 1, {secret}).ok());
    ASSERT_TRUE(snapshot(*store, 1, 1, 1, secret).ok());
    copy();
  }
  for (const auto& item : fs::recursive_directory_iterator(dir)) {
    if (!item.is_regular_file()) continue;
    const std::string text = *read_file(item.path());
    EXPECT_THAT(text, testing::Not(HasSubstr(secret))) << item.path();
    EXPECT_THAT(text, testing::Not(HasSubstr("10.0.0.2"))) << item.path();
  }
}

// ---------------------------------------------------------------- the tail of a WAL

// Real WALs, damaged at every place: only the last write may be given up.
TEST_F(LogDamageTest, OnlyTheLastWriteOfAWalCanBeTorn) {
  EXPECT_EQ(torn_tail(""), std::nullopt);
  {
    auto store = open();
    ASSERT_TRUE(add(*store, 1, 1, {"a"}).ok());
    ASSERT_TRUE(add(*store, 2, 1, {"b"}).ok());
  }
  size_t last_write = 0;
  {
    auto store = open();
    ASSERT_TRUE(add(*store, 3, 1, {std::string(100, 'c')}).ok());
    last_write = fs::file_size(wal());
    ASSERT_TRUE(add(*store, 4, 1, {std::string(70'000, 'd')}).ok());  // over three blocks
    copy();
  }
  put_copy_back();
  const std::string good = *read_file(wal());
  EXPECT_EQ(torn_tail(good), std::nullopt);
  for (size_t at = 0; at < good.size(); at += at < 400 || at > good.size() - 200 ? 1 : 997) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 0x40);
    const auto cut = torn_tail(bad);
    if (at < last_write) {
      EXPECT_EQ(cut, std::nullopt) << "byte " << at;
    } else {
      EXPECT_EQ(cut, std::optional<uint64_t>(last_write)) << "byte " << at;
    }
  }
}

// ---------------------------------------------------------------- looking at it

TEST_F(LogDamageTest, AnInspectionShowsAllAndChangesNothing) {
  EXPECT_EQ(LogInspection::open(dir / "raft", {}).error().code(), StatusCode::kNotFound);
  {
    auto store = open();
    EXPECT_EQ(LogInspection::open(dir / "raft", {}).error().reason(), "in-use");
    ASSERT_TRUE(add(*store, 1, 1, {"a", "b"}).ok());
    ASSERT_TRUE(add(*store, 3, 2, {"c"}).ok());
    ASSERT_TRUE(snapshot(*store, 2, 1, 2).ok());
    ASSERT_TRUE(lay(*store, 77, 2, "left over").ok());
  }
  const auto before = contents();
  auto look = *LogInspection::open(dir / "raft", {});
  EXPECT_EQ(look->identity(), options.identity);
  EXPECT_EQ(look->hard_state().term, 2U);
  EXPECT_EQ(look->snapshot().members, group_of({1, 2, 3}));
  EXPECT_EQ(look->first_index(), 2U);
  EXPECT_EQ(look->last_index(), 3U);
  EXPECT_TRUE(look->damage().ok());
  ASSERT_EQ(look->files().size(), 2U);
  EXPECT_TRUE(look->files()[0].current);
  EXPECT_FALSE(look->files()[1].current);
  EXPECT_EQ(look->read_snapshot()->bytes, 5U);
  std::vector<std::string> seen;
  ASSERT_TRUE(look->entries(0, UINT64_MAX,
                            [&](const Entry& e, size_t) {
                              seen.push_back(fmt::format("{}:{}", e.index, e.bytes()));
                            })
                  .ok());
  EXPECT_THAT(seen, ElementsAre("2:b", "3:c"));
  seen.clear();
  ASSERT_TRUE(look->entries(3, 2, [&](const Entry&, size_t) { seen.emplace_back("none"); }).ok());
  EXPECT_THAT(seen, IsEmpty());
  look.reset();
  EXPECT_EQ(contents(), before);
  fs::remove(dir / "raft" / snapshot_files().front());
  look = *LogInspection::open(dir / "raft", {});
  EXPECT_THAT(look->damage().message(), HasSubstr("is missing"));
  EXPECT_EQ(look->last_index(), 3U) << "shown all the same";
}

// What an inspection shows: "2:b", with the first byte, for an entry, "!" and words for what is
// wrong in between.
std::vector<std::string> shown(const LogInspection& look) {
  std::vector<std::string> out;
  const Status first = look.entries(
      0, UINT64_MAX,
      [&](const Entry& e, size_t) {
        out.push_back(fmt::format("{}:{}", e.index, e.bytes().front()));
      },
      [&](const Status& what) { out.push_back("!" + what.message()); });
  for (const std::string& line : out) {
    if (!line.starts_with("!")) continue;
    EXPECT_EQ("!" + first.message(), line) << "the first is the result";
    break;
  }
  return out;
}

class LogInspectionTest : public LogDamageTest {
 protected:
  // Entries "1" to "9" in writes of their own, in the WAL, as a kill left it. Long ones, of which
  // each ends in another of the WAL's blocks: RocksDB gives the rest of a damaged block up.
  void nine_entries() {
    {
      auto store = open();
      for (Index i = 1; i <= 9; ++i) {
        ASSERT_TRUE(add(*store, i, 1, {std::string(40'000, static_cast<char>('0' + i))}).ok());
      }
      copy();
    }
    put_copy_back();
  }
  std::unique_ptr<LogInspection> look() {
    auto opened = LogInspection::open(dir / "raft", {});
    EXPECT_TRUE(opened) << opened.error().to_string();
    return opened ? *std::move(opened) : nullptr;
  }
};

// The log cannot be opened any more; what is before the damage is shown, and what is gone is named.
TEST_F(LogInspectionTest, DamageInTheMiddleLeavesWhatIsBeforeItToSee) {
  nine_entries();
  const std::string bytes = *read_file(wal());
  for (size_t i = 0; i < 7; ++i) flip(wal(), bytes.size() / 2 + i);
  expect_corrupt("cannot open the log");
  const auto before = contents();
  auto log = look();
  ASSERT_NE(log, nullptr);
  EXPECT_THAT(log->damage().message(), HasSubstr("Corruption"));
  EXPECT_THAT(log->damage().message(), HasSubstr("what was written after that is not shown"));
  EXPECT_TRUE(log->known().hard_state && log->known().snapshot && log->known().end);
  EXPECT_EQ(log->last_index(), 4U);
  EXPECT_THAT(shown(*log), ElementsAre("1:1", "2:2", "3:3", "4:4"));
  log.reset();
  EXPECT_EQ(contents(), before) << "nothing is changed";
}

TEST_F(LogInspectionTest, ATornTailIsCalledOne) {
  nine_entries();
  flip(wal(), fs::file_size(wal()) - 20);
  const auto log = look();
  ASSERT_NE(log, nullptr);
  EXPECT_THAT(log->damage().message(), HasSubstr("did not reach the disk entirely"));
  EXPECT_EQ(log->last_index(), 8U);
  EXPECT_EQ(shown(*log).back(), "8:8");
}

// An entry that does not decrypt, or that is not there, does not hide those after it.
TEST_F(LogInspectionTest, EntriesAfterABadOneAreShown) {
  {
    auto store = open();
    for (Index i = 1; i <= 6; ++i) ASSERT_TRUE(add(*store, i, 1, {fmt::format("{}", i)}).ok());
  }
  {
    auto db = *LogDb::open(dir / "raft", LogDb::Mode::kReadWrite, nullptr);
    std::string bytes = *db->get(*db->log, index_key(2));
    bytes.back() = static_cast<char>(bytes.back() ^ 1);
    rocksdb::WriteBatch batch;
    ASSERT_TRUE(batch.Put(db->log.get(), index_key(2), bytes).ok());
    ASSERT_TRUE(batch.Delete(db->log.get(), index_key(4)).ok());
    ASSERT_TRUE(batch.Delete(db->log.get(), index_key(5)).ok());
    ASSERT_TRUE(db->write(batch).ok());
  }
  const auto log = look();
  ASSERT_NE(log, nullptr);
  EXPECT_THAT(log->damage().message(), HasSubstr("a gap before or at entry 3"));
  EXPECT_THAT(shown(*log), ElementsAre("1:1", HasSubstr("!log entry 2 is damaged: "), "3:3",
                                       "!log entries 4 to 5 are missing", "6:6"));
}

// With RocksDB's list of files gone nothing is readable but what lies outside it.
TEST_F(LogInspectionTest, WithoutItsEntriesTheLogStillSaysWhoseItIs) {
  nine_entries();
  open();  // its orderly end saves the watermark
  for (const auto& item : fs::directory_iterator(dir / "raft/log")) {
    if (item.path().filename().string().starts_with("MANIFEST-")) fs::resize_file(item.path(), 0);
  }
  auto log = look();
  ASSERT_NE(log, nullptr);
  EXPECT_EQ(log->identity(), options.identity);
  EXPECT_FALSE(log->damage().ok());
  EXPECT_FALSE(log->known().hard_state);
  EXPECT_FALSE(log->known().snapshot);
  EXPECT_TRUE(log->known().end) << "the second copy of the watermark";
  EXPECT_THAT(shown(*log), IsEmpty());
  log.reset();
  fs::remove_all(dir / "raft/log");
  log = look();
  ASSERT_NE(log, nullptr);
  EXPECT_THAT(log->damage().message(), HasSubstr("its entries are gone"));
}

}  // namespace
}  // namespace muster::raft
