#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/file.h"
#include "raft/storage/rocks_log_store.h"

namespace muster::raft {

namespace fs = std::filesystem;

inline Entry entry(Index index, Term term, const std::string& payload,
                   EntryKind kind = EntryKind::kData) {
  return {index, term, kind,
          payload.empty() ? nullptr : std::make_shared<const std::string>(payload)};
}

inline Members group_of(std::initializer_list<uint64_t> ids) {
  Members members;
  for (const uint64_t id : ids) {
    Member member;
    member.id = {id};
    member.node_id = fmt::format("node{}", id);
    member.address = fmt::format("10.0.0.{}:2377", id);
    member.voter = true;
    members.put(std::move(member));
  }
  return members;
}

// A log in a directory of its own.
class StoreFixture : public testing::Test {
 protected:
  StoreFixture() {
    char name[] = "/tmp/muster-log-XXXXXX";
    dir = mkdtemp(name);
    options.dir = dir / "raft";
    options.log = null_log();
    options.identity = {"cluster1", "node1", MemberId{0xab}};
    options.reserve_bytes = 0;
    options.free_bytes_min = 0;
  }
  ~StoreFixture() override { fs::remove_all(dir); }

  std::unique_ptr<RocksLogStore> open() {
    auto store = RocksLogStore::open(options);
    EXPECT_TRUE(store.has_value()) << store.error().to_string();
    return store ? *std::move(store) : nullptr;
  }
  Status refused() {
    auto store = RocksLogStore::open(options);
    return store ? ok_status() : store.error();
  }

  // In a term of at least the entries' own.
  static Status add(LogStore& store, Index first, Term term,
                    const std::vector<std::string>& payloads) {
    Write write;
    write.hard_state = store.hard_state();
    write.hard_state->term = std::max(term, write.hard_state->term);
    for (const std::string& p : payloads) write.entries.push_back(entry(first++, term, p));
    return store.write({&write});
  }
  static std::vector<std::string> texts(const LogStore& store) {
    std::vector<std::string> out;
    const auto restored = store.restore();
    EXPECT_TRUE(restored.has_value()) << restored.error().to_string();
    if (!restored) return out;
    for (const Entry& e : restored->entries) {
      out.push_back(fmt::format("{}:{}:{}", e.index, e.term, e.bytes()));
    }
    return out;
  }
  static Status lay(LogStore& store, Index index, Term term, const std::string& state) {
    auto sink = store.create_snapshot(index, term);
    if (!sink) return sink.error();
    MUSTER_TRY((*sink)->add(state));
    return (*sink)->finish();
  }
  static Status snapshot(LogStore& store, Index index, Term term, Index keep_from,
                         const std::string& state = "state") {
    MUSTER_TRY(lay(store, index, term, state));
    return store.set_snapshot({index, term, group_of({1, 2, 3})}, keep_from);
  }
  static Status install(LogStore& store, const SnapshotMark& mark, Term term) {
    Write write;
    write.hard_state = HardState{term, {}};
    write.install = mark;
    return store.write({&write});
  }
  // The state of the store's snapshot, or what is wrong with it.
  static std::string state_of(const LogStore& store) {
    auto source = store.open_snapshot(store.snapshot().index, store.snapshot().term);
    if (!source) return source.error().to_string();
    std::string out;
    while (true) {
      const auto chunk = (*source)->next();
      if (!chunk) return chunk.error().to_string();
      if (chunk->empty()) return out;
      out += *chunk;
    }
  }

  std::vector<std::string> snapshot_files() const {
    std::vector<std::string> out;
    for (const auto& item : fs::directory_iterator(dir / "raft")) {
      std::string name = item.path().filename().string();
      if (name.starts_with("snapshot-")) out.push_back(std::move(name));
    }
    std::sort(out.begin(), out.end());
    return out;
  }
  fs::path wal() const {
    fs::path newest;
    for (const auto& item : fs::directory_iterator(dir / "raft/log")) {
      if (item.path().extension() == ".log" && item.path() > newest) newest = item.path();
    }
    return newest;
  }
  // The directory as a kill would leave it: copied while the store is open, put back afterwards.
  void copy() { fs::copy(dir / "raft", dir / "copy", fs::copy_options::recursive); }
  void put_copy_back() {
    fs::remove_all(dir / "raft");
    fs::rename(dir / "copy", dir / "raft");
  }
  static void flip(const fs::path& file, size_t at) {
    std::string bytes = *read_file(file);
    bytes[at] = static_cast<char>(bytes[at] ^ 0x10);
    std::ofstream(file, std::ios::binary | std::ios::trunc) << bytes;
  }

  fs::path dir;
  RocksLogStore::Options options;
};

}  // namespace muster::raft
