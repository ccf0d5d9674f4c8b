// What a log keeps: entries, term and vote, replaced ends, snapshots and what lies before them.
#include <rocksdb/db.h>

#include <chrono>
#include <thread>

#include "tests/raft/storage/store_fixture.h"

namespace muster::raft {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

class LogStoreTest : public StoreFixture {};

TEST_F(LogStoreTest, KeepsEntriesKindsTermAndVote) {
  const std::string members = encode_members(group_of({1, 2}));
  {
    auto store = open();
    Write first;
    first.hard_state = HardState{3, {77}};
    first.entries = {entry(1, 2, "", EntryKind::kEmpty), entry(2, 2, "a"), entry(3, 3, "")};
    Write second;
    second.entries = {entry(4, 3, members, EntryKind::kMembers)};
    ASSERT_TRUE(store->write({&first, &second}).ok());
  }
  auto store = open();
  EXPECT_EQ(store->hard_state(), (HardState{3, {77}}));
  const Restored restored = *store->restore();
  EXPECT_EQ(restored.hard_state, store->hard_state());
  EXPECT_EQ(restored.snapshot, SnapshotMark());
  EXPECT_THAT(restored.entries,
              ElementsAre(entry(1, 2, "", EntryKind::kEmpty), entry(2, 2, "a"), entry(3, 3, ""),
                          entry(4, 3, members, EntryKind::kMembers)));
  EXPECT_EQ(store->first_index(), 1U);
  EXPECT_EQ(store->last_index(), 4U);
  EXPECT_EQ(store->last_term(), 3U);
}

TEST_F(LogStoreTest, ALaterTermReplacesTheEnd) {
  {
    auto store = open();
    ASSERT_TRUE(add(*store, 1, 1, {"a", "b", "c"}).ok());
    ASSERT_TRUE(add(*store, 2, 2, {"x"}).ok());
    EXPECT_EQ(store->last_index(), 2U);
    EXPECT_FALSE(add(*store, 9, 2, {"gap"}).ok());
    ASSERT_TRUE(add(*store, 3, 2, {"y"}).ok());
  }
  EXPECT_THAT(texts(*open()), ElementsAre("1:1:a", "2:2:x", "3:2:y"));
}

// The end may go back in index and in the terms of its entries: a leader of term 3 sends its old
// entry of term 1 first. That is no loss.
TEST_F(LogStoreTest, AnEndThatGoesBackIsNoLoss) {
  {
    auto store = open();
    ASSERT_TRUE(add(*store, 1, 1, {"a"}).ok());
    ASSERT_TRUE(add(*store, 2, 2, {"b", "c", "d"}).ok());
    store->settle();  // the watermark file names entry 4 of term 2
    Write write;
    write.hard_state = HardState{3, {}};
    write.entries = {entry(2, 1, "x")};
    ASSERT_TRUE(store->write({&write}).ok());
    copy();
  }
  put_copy_back();
  EXPECT_THAT(texts(*open()), ElementsAre("1:1:a", "2:1:x"));
}

// B09: everything of several steps in one write, each replacing part of the one before.
TEST_F(LogStoreTest, B09_StepsOfOneWriteReplaceEachOther) {
  {
    auto store = open();
    ASSERT_TRUE(add(*store, 1, 1, {"a", "b", "c"}).ok());
    Write one;
    one.hard_state = HardState{2, {}};
    one.entries = {entry(3, 2, "C"), entry(4, 2, "D"), entry(5, 2, "E")};
    Write two;
    two.hard_state = HardState{3, {5}};
    two.entries = {entry(4, 3, "D3"), entry(5, 3, "E3")};
    Write three;
    three.entries = {entry(6, 3, "F3")};
    Write four;
    four.hard_state = HardState{4, {}};
    four.entries = {entry(2, 4, "B4")};
    Write five;
    five.entries = {entry(3, 4, "C4"), entry(4, 4, "D4")};
    Write six;
    six.hard_state = HardState{5, {9}};
    six.entries = {entry(3, 5, "C5")};
    ASSERT_TRUE(store->write({&one, &two, &three}).ok());
    EXPECT_THAT(texts(*store),
                ElementsAre("1:1:a", "2:1:b", "3:2:C", "4:3:D3", "5:3:E3", "6:3:F3"));
    ASSERT_TRUE(store->write({&four, &five, &six}).ok());
  }
  auto store = open();
  EXPECT_THAT(texts(*store), ElementsAre("1:1:a", "2:4:B4", "3:5:C5"));
  EXPECT_EQ(store->hard_state(), (HardState{5, {9}}));
}

// ---------------------------------------------------------------- snapshots

TEST_F(LogStoreTest, SnapshotDropsThePrefixAndOldFiles) {
  {
    auto store = open();
    ASSERT_TRUE(add(*store, 1, 1, {"a", "b", "c", "d"}).ok());
    ASSERT_TRUE(snapshot(*store, 2, 1, 3, "two").ok());
    EXPECT_THAT(snapshot_files(),
                ElementsAre("snapshot-00000000000000000002-00000000000000000001"));
    ASSERT_TRUE(snapshot(*store, 3, 1, 4, "three").ok());
    EXPECT_EQ(store->first_index(), 4U);
  }
  auto store = open();
  EXPECT_EQ(store->snapshot(), (SnapshotMark{3, 1, group_of({1, 2, 3})}));
  EXPECT_THAT(texts(*store), ElementsAre("4:1:d"));
  EXPECT_EQ(state_of(*store), "three");
  EXPECT_THAT(snapshot_files(), SizeIs(1));
}

TEST_F(LogStoreTest, EntriesBeforeTheSnapshotAreKeptForSlowMembers) {
  {
    auto store = open();
    ASSERT_TRUE(add(*store, 1, 1, {"a", "b"}).ok());
    ASSERT_TRUE(add(*store, 3, 2, {"c", "d", "e"}).ok());
    ASSERT_TRUE(snapshot(*store, 4, 2, 3).ok());
    EXPECT_EQ(store->first_index(), 3U);
  }
  {
    auto store = open();
    const Restored restored = *store->restore();
    EXPECT_EQ(restored.snapshot.index, 4U);
    EXPECT_EQ(restored.before_term, 1U);
    EXPECT_THAT(texts(*store), ElementsAre("3:2:c", "4:2:d", "5:2:e"));
    // What is gone stays gone, whatever is asked for; nothing beyond the snapshot goes.
    ASSERT_TRUE(snapshot(*store, 5, 2, 1).ok());
    EXPECT_EQ(store->first_index(), 3U);
    ASSERT_TRUE(add(*store, 6, 2, {"f"}).ok());
    ASSERT_TRUE(snapshot(*store, 6, 2, 100).ok());
    EXPECT_EQ(store->first_index(), 7U);
  }
  auto store = open();
  EXPECT_THAT(texts(*store), IsEmpty());
  EXPECT_EQ(store->last_index(), 6U);
  EXPECT_EQ(store->last_term(), 2U);
  ASSERT_TRUE(add(*store, 7, 2, {"g"}).ok());
}

// The core takes it all back: members, kept entries, and what it may send.
TEST_F(LogStoreTest, ACoreGoesOnWithKeptEntries) {
  {
    auto store = open();
    const std::string members = encode_members(group_of({1, 2, 3}));
    Write write;
    write.hard_state = HardState{2, {}};
    write.entries = {entry(1, 1, members, EntryKind::kMembers), entry(2, 1, "b"),
                     entry(3, 2, members, EntryKind::kMembers), entry(4, 2, "d")};
    ASSERT_TRUE(store->write({&write}).ok());
    ASSERT_TRUE(snapshot(*store, 3, 2, 2).ok());
  }
  SeededRng rng(1);
  const Core core({}, MemberId{1}, *open()->restore(), {}, rng, TimePoint());
  core.check_invariants();
  EXPECT_EQ(core.log().first(), 2U);
  EXPECT_EQ(core.log().term(1), std::optional<Term>(1));
  EXPECT_EQ(core.log().last(), 4U);
  EXPECT_EQ(core.commit(), 3U);
  EXPECT_EQ(core.durable(), 4U);
  EXPECT_EQ(core.members(), group_of({1, 2, 3}));
}

TEST_F(LogStoreTest, ASnapshotThatDoesNotFitIsRefusedAndRemoved) {
  auto store = open();
  ASSERT_TRUE(add(*store, 1, 1, {"a", "b", "c"}).ok());
  ASSERT_TRUE(snapshot(*store, 2, 1, 3).ok());
  EXPECT_EQ(snapshot(*store, 1, 1, 2).code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(snapshot(*store, 2, 1, 2).code(), StatusCode::kFailedPrecondition) << "again";
  EXPECT_EQ(snapshot(*store, 3, 9, 2).code(), StatusCode::kFailedPrecondition) << "another term";
  EXPECT_EQ(snapshot(*store, 9, 1, 2).code(), StatusCode::kFailedPrecondition) << "beyond the end";
  EXPECT_EQ(store->set_snapshot({3, 1, {}}, 4).code(), StatusCode::kNotFound) << "no file";
  EXPECT_EQ(store->snapshot().index, 2U);
  EXPECT_EQ(state_of(*store), "state");
  ASSERT_TRUE(snapshot(*store, 3, 1, 4).ok());
  // Those beyond go with the next start: they might have been about to be installed.
  store.reset();
  open();
  EXPECT_THAT(snapshot_files(), SizeIs(1));
}

// B13, B14: a snapshot far beyond the end of the log takes its place, and that survives a restart.
TEST_F(LogStoreTest, B14_ASnapshotNewerThanTheLogTakesItsPlace) {
  const SnapshotMark mark{100, 4, group_of({1, 2, 3})};
  {
    auto store = open();
    ASSERT_TRUE(add(*store, 1, 1, {"a", "b", "c"}).ok());
    ASSERT_TRUE(lay(*store, 100, 4, "hundred").ok());
    ASSERT_TRUE(install(*store, mark, 5).ok());
    EXPECT_EQ(store->first_index(), 101U);
    EXPECT_EQ(store->last_index(), 100U);
    EXPECT_EQ(store->last_term(), 4U);
  }
  {
    auto store = open();
    EXPECT_EQ(store->snapshot(), mark);
    EXPECT_EQ(state_of(*store), "hundred");
    EXPECT_EQ(store->hard_state().term, 5U);
    EXPECT_THAT(texts(*store), IsEmpty());
    ASSERT_TRUE(add(*store, 101, 5, {"next"}).ok());
    EXPECT_FALSE(add(*store, 100, 5, {"within"}).ok());
  }
  EXPECT_THAT(texts(*open()), ElementsAre("101:5:next"));
}

// The log went on in a direction that was never committed; the snapshot ends before its end and in
// an older term than its entries.
TEST_F(LogStoreTest, AnInstallReplacesALongerLogOfALaterTerm) {
  {
    auto store = open();
    ASSERT_TRUE(add(*store, 1, 5, {"a", "b", "c", "d", "e"}).ok());
    store->settle();
    ASSERT_TRUE(lay(*store, 3, 4, "three").ok());
    ASSERT_TRUE(install(*store, {3, 4, group_of({1, 2})}, 6).ok());
    copy();
  }
  put_copy_back();
  auto store = open();
  EXPECT_THAT(texts(*store), IsEmpty());
  EXPECT_EQ(store->last_index(), 3U);
}

// B16: two snapshots at short distance, with entries between, in one write.
TEST_F(LogStoreTest, TwoInstallsInOneWrite_B16) {
  {
    auto store = open();
    ASSERT_TRUE(add(*store, 1, 1, {"a"}).ok());
    ASSERT_TRUE(lay(*store, 10, 2, "ten").ok());
    ASSERT_TRUE(lay(*store, 12, 2, "twelve").ok());
    Write one;
    one.hard_state = HardState{2, {}};
    one.install = SnapshotMark{10, 2, group_of({1})};
    one.entries = {entry(11, 2, "eleven"), entry(12, 2, "other")};
    Write two;
    two.entries = {entry(11, 2, "Eleven")};
    Write three;
    three.install = SnapshotMark{12, 2, group_of({2})};
    three.entries = {entry(13, 2, "thirteen")};
    ASSERT_TRUE(store->write({&one, &two}).ok());
    EXPECT_THAT(texts(*store), ElementsAre("11:2:Eleven"));
    ASSERT_TRUE(store->write({&three}).ok());
    EXPECT_THAT(snapshot_files(), SizeIs(1));
  }
  auto store = open();
  EXPECT_EQ(state_of(*store), "twelve");
  EXPECT_THAT(texts(*store), ElementsAre("13:2:thirteen"));
}

TEST_F(LogStoreTest, AnInstallNeedsItsFile) {
  auto store = open();
  ASSERT_TRUE(add(*store, 1, 1, {"a"}).ok());
  EXPECT_FALSE(install(*store, {10, 1, group_of({1})}, 1).ok());
  EXPECT_THAT(texts(*store), ElementsAre("1:1:a"));
}

TEST_F(LogStoreTest, WhatWasNotFinishedOrNamedIsSweptAtTheNextStart) {
  {
    auto store = open();
    ASSERT_TRUE(add(*store, 1, 1, {"a", "b"}).ok());
    ASSERT_TRUE(snapshot(*store, 1, 1, 2).ok());
    ASSERT_TRUE(lay(*store, 50, 1, "received").ok());
    auto dropped = *store->create_snapshot(60, 1);
    ASSERT_TRUE(dropped->add("x").ok());
    dropped.reset();
    EXPECT_THAT(snapshot_files(), SizeIs(2)) << "one given up leaves nothing";
    auto sink = *store->create_snapshot(70, 1);
    ASSERT_TRUE(sink->add("x").ok());
    // Another snapshot meanwhile leaves both alone.
    ASSERT_TRUE(snapshot(*store, 2, 1, 3).ok());
    EXPECT_THAT(snapshot_files(), SizeIs(3));
    copy();
  }
  put_copy_back();
  open();
  EXPECT_THAT(snapshot_files(), ElementsAre("snapshot-00000000000000000002-00000000000000000001"));
}

TEST_F(LogStoreTest, ASnapshotBeingReadSurvivesItsReplacement) {
  auto store = open();
  ASSERT_TRUE(add(*store, 1, 1, {"a", "b"}).ok());
  ASSERT_TRUE(snapshot(*store, 1, 1, 2, "one").ok());
  auto source = *store->open_snapshot(1, 1);
  ASSERT_TRUE(snapshot(*store, 2, 1, 3, "two").ok());
  EXPECT_EQ(*source->next(), "one");
  EXPECT_EQ(*source->next(), "");
  EXPECT_EQ(store->open_snapshot(1, 1).error().code(), StatusCode::kNotFound);
}

// The files of dropped entries go, and not only their names.
TEST_F(LogStoreTest, ASnapshotGivesSpaceBack) {
  auto store = open();
  Index next = 1;
  const auto grow = [&] {
    for (int i = 0; i < 40; ++i) {
      ASSERT_TRUE(add(*store, next++, 1, {std::string(1 << 20, 'x')}).ok());
    }
  };
  grow();
  grow();
  ASSERT_TRUE(snapshot(*store, next - 1, 1, next).ok());
  store.reset();
  store = open();
  ASSERT_TRUE(snapshot(*store, next - 1, 1, next).code() == StatusCode::kFailedPrecondition);
  ASSERT_TRUE(add(*store, next++, 1, {"x"}).ok());
  ASSERT_TRUE(snapshot(*store, next - 1, 1, next).ok());
  // RocksDB rewrites what is left of them in the background.
  const auto used = [&] {
    uintmax_t bytes = 0;
    std::error_code gone;
    for (const auto& item : fs::directory_iterator(dir / "raft/log")) bytes += item.file_size(gone);
    return bytes;
  };
  const auto end = std::chrono::steady_clock::now() + 60s;
  while (used() >= 8U << 20 && std::chrono::steady_clock::now() < end) std::this_thread::yield();
  EXPECT_LT(used(), 8U << 20) << "of 80 MiB";
}

// ---------------------------------------------------------------- whose log it is

TEST_F(LogStoreTest, KnowsWhoseItIs) {
  open();
  EXPECT_EQ(open()->identity(), options.identity);
  const LogIdentity mine = options.identity;
  options.identity = {};
  EXPECT_EQ(open()->identity(), mine);
  options.identity = {"cluster2", "", {}};
  EXPECT_EQ(refused().reason(), "foreign-log");
  EXPECT_THAT(refused().message(), HasSubstr("of cluster \"cluster1\", not to"));
  options.identity = {"", "", MemberId{3}};
  EXPECT_EQ(refused().reason(), "foreign-log");
}

TEST_F(LogStoreTest, OneProcessAtATime) {
  auto store = open();
  EXPECT_EQ(refused().reason(), "in-use");
  EXPECT_EQ(refused().code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(set_log_aside(options.dir).error().reason(), "in-use");
}

TEST_F(LogStoreTest, ALogCanBeSetAside) {
  ASSERT_TRUE(add(*open(), 1, 1, {"a"}).ok());
  EXPECT_EQ(*set_log_aside(options.dir), dir / "raft.damaged-1");
  EXPECT_FALSE(fs::exists(options.dir));
  EXPECT_EQ(open()->last_index(), 0U);
  EXPECT_EQ(*set_log_aside(options.dir), dir / "raft.damaged-2");
}

TEST_F(LogStoreTest, OtherFormatsAreRefusedInWords) {
  open();
  const auto set_format = [&](const char* format) {
    std::vector<rocksdb::ColumnFamilyDescriptor> families;
    for (const char* name : {"default", "meta", "log", "snap"})
      families.emplace_back(name, rocksdb::ColumnFamilyOptions());
    std::vector<rocksdb::ColumnFamilyHandle*> handles;
    rocksdb::DB* db = nullptr;
    ASSERT_TRUE(rocksdb::DB::Open({}, (dir / "raft/log").string(), families, &handles, &db).ok());
    ASSERT_TRUE(db->Put({}, handles[1], "format", format).ok());
    for (auto* handle : handles) delete handle;
    delete db;
  };
  set_format("muster-log 3");
  EXPECT_EQ(refused().code(), StatusCode::kFailedPrecondition);
  EXPECT_THAT(refused().message(), HasSubstr("\"muster-log 3\""));
  EXPECT_THAT(refused().message(), HasSubstr("upgrade muster"));
  set_format("muster-log 1");
  EXPECT_EQ(refused().code(), StatusCode::kFailedPrecondition);
  EXPECT_THAT(refused().message(), HasSubstr("has format 1"));
  std::ofstream(dir / "raft/log.key", std::ios::trunc) << "muster-log-key 1\nabc\n1\n00\n";
  EXPECT_EQ(refused().code(), StatusCode::kFailedPrecondition);
  EXPECT_THAT(refused().message(), HasSubstr("format 1"));
}

// Killed while the log was made: the next start makes it.
TEST_F(LogStoreTest, MakingItCanBeInterruptedAnywhere) {
  open();
  fs::remove(dir / "raft/log.key");
  EXPECT_EQ(open()->last_index(), 0U);
  fs::remove(dir / "raft/log.key");
  fs::remove(dir / "raft/watermark");
  ASSERT_TRUE(add(*open(), 1, 1, {"a"}).ok());
  EXPECT_THAT(texts(*open()), ElementsAre("1:1:a"));
}

// ---------------------------------------------------------------- the disk's room

TEST_F(LogStoreTest, AFullDiskIsRefusedBeforeAnythingIsWritten) {
  ASSERT_TRUE(add(*open(), 1, 1, {"a"}).ok());
  options.free_bytes_min = UINT64_MAX / 2;
  auto store = open();
  EXPECT_EQ(store->room(), DiskRoom::kFull);
  const Status status = add(*store, 2, 1, {"b"});
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(status.reason(), "disk-full");
  EXPECT_EQ(store->last_index(), 1U);
  // An election still works: term, vote, the empty entry of a new leader.
  Write vote;
  vote.hard_state = HardState{7, {3}};
  vote.entries = {entry(2, 7, "", EntryKind::kEmpty)};
  ASSERT_TRUE(store->write({&vote}).ok());
  auto sink = *store->create_snapshot(2, 7);
  EXPECT_EQ(sink->add("state").reason(), "disk-full") << "what is left is the log's";
  sink.reset();
  options.free_bytes_min = 0;
  store.reset();
  store = open();
  EXPECT_EQ(store->hard_state(), (HardState{7, {3}}));
  EXPECT_EQ(store->room(), DiskRoom::kPlenty);
  EXPECT_TRUE(add(*store, 3, 7, {"c"}).ok());
}

TEST_F(LogStoreTest, SpaceIsSetAsideAndGivenUpOnAFullDisk) {
  options.reserve_bytes = 1 << 20;
  open();
  EXPECT_EQ(fs::file_size(dir / "raft/reserve"), 1U << 20);
  options.free_bytes_min = UINT64_MAX / 4;
  open();
  EXPECT_FALSE(fs::exists(dir / "raft/reserve"));
}

}  // namespace
}  // namespace muster::raft
