#include "raft/storage/rocks_log_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rocksdb/db.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/file.h"
#include "raft/storage/snapshot_file.h"

namespace muster::raft {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

class LogStoreTest : public testing::Test {
 protected:
  LogStoreTest() {
    char name[] = "/tmp/muster-log-XXXXXX";
    dir = mkdtemp(name);
  }
  ~LogStoreTest() override { fs::remove_all(dir); }

  Result<std::unique_ptr<RocksLogStore>> try_open() {
    RocksLogStore::Options options;
    options.dir = dir / "raft";
    options.log = null_log();
    options.reserve_bytes = 0;
    options.free_bytes_min = 0;
    return RocksLogStore::open(options);
  }
  std::unique_ptr<RocksLogStore> open() {
    auto store = try_open();
    EXPECT_TRUE(store.has_value()) << store.error().to_string();
    return store ? *std::move(store) : nullptr;
  }
  static Status add(RocksLogStore& store, uint64_t first, uint64_t term,
                    const std::vector<std::string>& payloads) {
    LogBatch batch;
    for (const std::string& p : payloads) batch.entries.push_back({first++, term, p});
    return store.append({batch});
  }
  static std::vector<std::string> payloads(const RocksLogStore& store) {
    std::vector<std::string> out;
    const Status status = store.read(store.first_index(), [&](LogEntry e) {
      out.push_back(fmt::format("{}:{}:{}", e.index, e.term, e.payload));
      return ok_status();
    });
    EXPECT_TRUE(status.ok()) << status.to_string();
    return out;
  }
  fs::path wal() const {
    fs::path newest;
    for (const auto& item : fs::directory_iterator(dir / "raft/log")) {
      if (item.path().extension() == ".log" && (newest.empty() || item.path() > newest)) {
        newest = item.path();
      }
    }
    return newest;
  }

  fs::path dir;
};

TEST_F(LogStoreTest, KeepsEntriesTermAndVote) {
  {
    auto store = open();
    LogBatch batch;
    batch.has_hard_state = true;
    batch.hard_state = {.term = 3, .vote = {77}};
    batch.entries = {{1, 3, "a"}, {2, 3, ""}};
    ASSERT_TRUE(store->append({batch}).ok());
    ASSERT_TRUE(add(*store, 3, 4, {"c"}).ok());
  }
  auto store = open();
  EXPECT_EQ(store->hard_state(), (HardState{.term = 3, .vote = {77}}));
  EXPECT_THAT(payloads(*store), ElementsAre("1:3:a", "2:3:", "3:4:c"));
  EXPECT_EQ(store->last_index(), 3U);
  EXPECT_EQ(store->last_term(), 4U);
  EXPECT_EQ(*store->term_of(2), 3U);
}

TEST_F(LogStoreTest, ALaterTermReplacesTheEnd) {
  {
    auto store = open();
    ASSERT_TRUE(add(*store, 1, 1, {"a", "b", "c"}).ok());
    ASSERT_TRUE(add(*store, 2, 2, {"x"}).ok());
    EXPECT_EQ(store->last_index(), 2U);
    ASSERT_FALSE(add(*store, 9, 2, {"gap"}).ok());
  }
  auto store = open();
  EXPECT_THAT(payloads(*store), ElementsAre("1:1:a", "2:2:x"));
}

TEST_F(LogStoreTest, SnapshotDropsThePrefixAndOldFiles) {
  {
    auto store = open();
    ASSERT_TRUE(add(*store, 1, 1, {"a", "b", "c", "d"}).ok());
    for (const uint64_t index : {2, 3}) {
      auto writer = SnapshotFileWriter::create(store->dir(), store->key(), index);
      ASSERT_TRUE(writer->add(fmt::format("state {}", index)).ok());
      ASSERT_TRUE(writer->add("more").ok());
      const auto file = writer->finish();
      ASSERT_TRUE(file.has_value());
      ASSERT_TRUE(store->set_snapshot(index, *file).ok());
    }
    EXPECT_EQ(store->set_snapshot(2, "old").code(), StatusCode::kFailedPrecondition);
    EXPECT_EQ(store->set_snapshot(9, "new").code(), StatusCode::kFailedPrecondition);
  }
  auto store = open();
  EXPECT_EQ(store->snapshot().index, 3U);
  EXPECT_THAT(payloads(*store), ElementsAre("4:1:d"));
  std::vector<std::string> chunks;
  const auto collect = [&](std::string chunk) {
    chunks.push_back(std::move(chunk));
    return ok_status();
  };
  const fs::path file = store->dir() / store->snapshot().file;
  ASSERT_TRUE(read_snapshot(file, store->key(), 3, collect).ok());
  EXPECT_THAT(chunks, ElementsAre("state 3", "more"));
  EXPECT_EQ(read_snapshot(file, store->key(), 4, collect).code(), StatusCode::kDataLoss);
  EXPECT_EQ(std::count_if(fs::directory_iterator(store->dir()), fs::directory_iterator(),
                          [](const auto& item) {
                            return item.path().filename().string().starts_with("snapshot-");
                          }),
            1);
  fs::resize_file(file, fs::file_size(file) - 5);
  EXPECT_EQ(read_snapshot(file, store->key(), 3, collect).code(), StatusCode::kDataLoss);
}

TEST_F(LogStoreTest, NothingIsReadableOnDisk) {
  const std::string secret = "correct horse battery staple";
  {
    auto store = open();
    ASSERT_TRUE(add(*store, 1, 1, {secret}).ok());
  }
  for (const auto& item : fs::recursive_directory_iterator(dir)) {
    if (!item.is_regular_file()) continue;
    EXPECT_THAT(*read_file(item.path()), testing::Not(HasSubstr(secret))) << item.path();
  }
  struct stat info {};
  ASSERT_EQ(stat((dir / "raft/log.key").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600U);
}

TEST_F(LogStoreTest, KeyFileProblemsAreExplained) {
  open();
  const fs::path key = dir / "raft/log.key";
  fs::permissions(key, fs::perms::others_read, fs::perm_options::add);
  EXPECT_THAT(try_open().error().message(), HasSubstr("readable by others"));
  fs::permissions(key, fs::perms::others_read, fs::perm_options::remove);
  fs::rename(key, dir / "away");
  EXPECT_EQ(try_open().error().code(), StatusCode::kNotFound) << "never a fresh key for an old log";
}

// A power cut in the middle of the last write: the entry was not acknowledged, the log goes on.
TEST_F(LogStoreTest, TornTailAfterTheWatermarkIsDropped) {
  fs::path copy = dir / "copy";
  {
    auto store = open();
    ASSERT_TRUE(add(*store, 1, 1, {"a"}).ok());
    ASSERT_TRUE(add(*store, 2, 1, {"b"}).ok());
    fs::copy(dir / "raft", copy, fs::copy_options::recursive);  // as a crash would leave it
  }
  fs::remove_all(dir / "raft");
  fs::rename(copy, dir / "raft");
  fs::resize_file(wal(), fs::file_size(wal()) - 7);
  {
    auto store = open();
    ASSERT_NE(store, nullptr);
    EXPECT_THAT(payloads(*store), ElementsAre("1:1:a"));
    ASSERT_TRUE(add(*store, 2, 2, {"again"}).ok());
  }
  EXPECT_THAT(payloads(*open()), ElementsAre("1:1:a", "2:2:again"));
}

// The same cut below the watermark file: acknowledged data is gone, and that is said.
TEST_F(LogStoreTest, LossBelowTheWatermarkIsRefused) {
  fs::path copy = dir / "copy";
  {
    auto store = open();
    ASSERT_TRUE(add(*store, 1, 1, {"a"}).ok());
    ASSERT_TRUE(add(*store, 2, 1, {"b"}).ok());
    fs::copy(dir / "raft", copy, fs::copy_options::recursive);
  }  // the orderly end saves the watermark
  fs::copy_file(dir / "raft/watermark", copy / "watermark", fs::copy_options::overwrite_existing);
  fs::remove_all(dir / "raft");
  fs::rename(copy, dir / "raft");
  fs::resize_file(wal(), fs::file_size(wal()) - 7);
  const auto store = try_open();
  ASSERT_FALSE(store.has_value());
  EXPECT_EQ(store.error().code(), StatusCode::kDataLoss);
  EXPECT_THAT(store.error().message(), HasSubstr("entry 2 was written and acknowledged"));
}

TEST_F(LogStoreTest, FlippedBitInAnEarlierRecordIsRefused) {
  fs::path copy = dir / "copy";
  {
    auto store = open();
    for (uint64_t i = 1; i <= 20; ++i) {
      ASSERT_TRUE(add(*store, i, 1, {std::string(500, 'x')}).ok());
    }
    fs::copy(dir / "raft", copy, fs::copy_options::recursive);
  }
  fs::remove_all(dir / "raft");
  fs::rename(copy, dir / "raft");
  const fs::path file = wal();
  std::string bytes = *read_file(file);
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 0x10);
  std::ofstream(file, std::ios::binary | std::ios::trunc) << bytes;
  const auto store = try_open();
  ASSERT_FALSE(store.has_value());
  EXPECT_EQ(store.error().code(), StatusCode::kDataLoss) << store.error().to_string();
}

TEST_F(LogStoreTest, ANewerFormatIsRefusedInWords) {
  open();
  std::vector<rocksdb::ColumnFamilyDescriptor> families;
  for (const char* name : {"default", "meta", "log", "snap"})
    families.emplace_back(name, rocksdb::ColumnFamilyOptions());
  std::vector<rocksdb::ColumnFamilyHandle*> handles;
  rocksdb::DB* db = nullptr;
  ASSERT_TRUE(rocksdb::DB::Open({}, (dir / "raft/log").string(), families, &handles, &db).ok());
  ASSERT_TRUE(db->Put({}, handles[1], "format", "muster-log 2").ok());
  for (auto* handle : handles) delete handle;
  delete db;
  const auto store = try_open();
  ASSERT_FALSE(store.has_value());
  EXPECT_EQ(store.error().code(), StatusCode::kFailedPrecondition);
  EXPECT_THAT(store.error().message(), HasSubstr("\"muster-log 2\""));
  EXPECT_THAT(store.error().message(), HasSubstr("upgrade muster"));
}

TEST_F(LogStoreTest, FullDiskIsRefusedBeforeAnythingIsWritten) {
  open();
  RocksLogStore::Options options;
  options.dir = dir / "raft";
  options.log = null_log();
  options.reserve_bytes = 0;
  options.free_bytes_min = UINT64_MAX / 2;
  auto store = *RocksLogStore::open(options);
  const Status status = add(*store, 1, 1, {"a"});
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(status.reason(), "disk-full");
  EXPECT_EQ(store->last_index(), 0U);
}

TEST(Record, EveryFieldIsAuthenticated) {
  char name[] = "/tmp/muster-key-XXXXXX";
  const fs::path dir = mkdtemp(name);
  const auto key = DataKey::load(dir / "key", true);
  ASSERT_TRUE(key.has_value());
  const Chain before(kChainBytes, 'c');
  const std::string record = *encode_record(*key, {7, 3, "payload"}, before);
  EXPECT_EQ(decode_record(*key, 7, record, before)->payload, "payload");
  for (size_t bit = 0; bit < record.size() * 8; ++bit) {
    std::string bad = record;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
    const auto decoded = decode_record(*key, 7, bad, before);
    ASSERT_FALSE(decoded.has_value()) << "bit " << bit;
    ASSERT_EQ(decoded.error().code(), StatusCode::kDataLoss);
  }
  EXPECT_FALSE(decode_record(*key, 8, record, before).has_value());
  EXPECT_FALSE(decode_record(*key, 7, record, Chain(kChainBytes, 'd')).has_value());
  fs::remove_all(dir);
}

}  // namespace
}  // namespace muster::raft
