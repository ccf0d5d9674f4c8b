// muster debug raft-log: a stopped manager's log, shown and left alone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <boost/json.hpp>
#include <filesystem>
#include <fstream>

#include "base/security/unlock_key.h"
#include "raft/storage/rocks_log_store.h"
#include "tests/deploy/cli/fake_daemon.h"

namespace muster::deploy::cli {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;

class RaftLog : public testing::Test {
 protected:
  RaftLog() {
    char name[] = "/tmp/muster-cli-XXXXXX";
    dir = mkdtemp(name);
    options.dir = dir / "raft";
    options.log = null_log();
    options.identity = {"cluster1", "node1", {0xab}};
    options.reserve_bytes = options.free_bytes_min = 0;
  }
  ~RaftLog() override { fs::remove_all(dir); }

  static raft::Members group(uint64_t second) {
    raft::Members members;
    members.put({{0xab}, "node1", "10.0.0.1:2377", true, false});
    members.put({{second}, "node2", "10.0.0.2:2377", false, false});
    return members;
  }
  void write() {
    auto store = *raft::RocksLogStore::open(options);
    raft::Write first;
    first.hard_state = raft::HardState{3, {0xab}};
    first.entries = {
        {1, 2, raft::EntryKind::kEmpty, nullptr},
        {2, 2, raft::EntryKind::kData, std::make_shared<const std::string>("secret payload")},
        {3, 3, raft::EntryKind::kMembers,
         std::make_shared<const std::string>(encode_members(group(0xcd)))}};
    ASSERT_TRUE(store->write({&first}).ok());
    auto sink = *store->create_snapshot(2, 2);
    ASSERT_TRUE(sink->add("state").ok() && sink->finish().ok());
    ASSERT_TRUE(store->set_snapshot({2, 2, group(0xef)}, 2).ok());
    ASSERT_TRUE(store->rewrap(lock).ok());
  }
  Outcome show(std::vector<std::string> more = {}, const std::string& input = "") {
    std::vector<std::string> words = {"debug", "raft-log", "--data-dir", dir.string()};
    words.insert(words.end(), more.begin(), more.end());
    return run_muster(daemon, words, input);
  }

  FakeDaemon daemon;
  fs::path dir;
  raft::RocksLogStore::Options options;
  std::optional<std::string> lock;
};

TEST_F(RaftLog, ShowsWhatIsThere) {
  write();
  const Outcome outcome = show();
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  for (const char* line : {
           "Member:    ab\n",
           "Term:      3, voted for ab\n",
           "Snapshot:  of entry 2, term 2\n",
           "Entries:   2 to 3, the last of term 3\n",
           "Data keys: 1, not wrapped\n",
           "Group:     ab (node1) at 10.0.0.1:2377 (voter), cd (node2) at 10.0.0.2:2377 (learner) "
           "(as of entry 3)\n",
           "File:      snapshot-00000000000000000002-00000000000000000002, ",
           "\n2            2        data            14\n",
           "\n3            3        members         ",
       }) {
    EXPECT_THAT(outcome.out, HasSubstr(line));
  }
  EXPECT_THAT(outcome.out, Not(HasSubstr("secret")));
  EXPECT_THAT(show({"--from", "3"}).out, Not(HasSubstr("\n2    ")));
  EXPECT_THAT(show({"--to", "2"}).out, Not(HasSubstr("\n3    ")));

  const auto json = boost::json::parse(show({"--json", "--from=3"}).out).as_object();
  EXPECT_EQ(json.at("Snapshot").at("Members").at(1).at("ID"), "ef");
  EXPECT_EQ(json.at("Group").at(1).at("ID"), "cd");
  ASSERT_EQ(json.at("Entries").as_array().size(), 1U);
  EXPECT_EQ(json.at("Entries").at(0).at("Members").at(1).at("Role"), "learner");
  EXPECT_EQ(json.at("Damage"), "");
}

TEST_F(RaftLog, TroubleIsExplained) {
  EXPECT_EQ(show().code, 1);
  EXPECT_THAT(show().err, HasSubstr("there is no manager's log in"));
  EXPECT_EQ(show({"--from", "x"}).code, 2);
  write();
  {
    auto store = *raft::RocksLogStore::open(options);
    EXPECT_EQ(show().code, 1);
    EXPECT_THAT(show().err, HasSubstr("in use by another process (musterd is running)"));
  }
  fs::remove(dir / "raft/snapshot-00000000000000000002-00000000000000000002");
  const Outcome damaged = show();
  EXPECT_EQ(damaged.code, 1);
  EXPECT_THAT(damaged.err, HasSubstr("is missing"));
  EXPECT_THAT(damaged.out, HasSubstr("data            14")) << "shown all the same";
}

// A log that musterd set aside is named by its own directory, and found when there is no other.
TEST_F(RaftLog, OneThatWasSetAsideCanBeShown) {
  write();
  ASSERT_EQ(raft::set_log_aside(dir / "raft")->filename(), "raft.damaged-1");
  EXPECT_EQ(show().code, 1);
  EXPECT_THAT(show().err, HasSubstr("--data-dir " + (dir / "raft.damaged-1").string() + "\n"));
  const Outcome aside =
      run_muster(daemon, {"debug", "raft-log", "--data-dir", (dir / "raft.damaged-1").string()});
  EXPECT_EQ(aside.code, 0) << aside.err;
  EXPECT_THAT(aside.out, HasSubstr("Member:    ab\n"));
  write();
  EXPECT_THAT(show().out, HasSubstr("Set aside: " + (dir / "raft.damaged-1").string()));
}

TEST_F(RaftLog, WhatIsBeforeTheDamageIsShown) {
  write();
  {  // Long entries, each alone in its write; a copy of the log as a kill would leave it.
    auto store = *raft::RocksLogStore::open(options);
    for (raft::Index i = 4; i <= 7; ++i) {
      raft::Write more;
      more.entries = {
          {i, 3, raft::EntryKind::kData, std::make_shared<const std::string>(40'000, 'x')}};
      ASSERT_TRUE(store->write({&more}).ok());
    }
    fs::copy(dir / "raft", dir / "copy", fs::copy_options::recursive);
  }
  fs::path wal;
  for (const auto& item : fs::directory_iterator(dir / "copy/log"))
    if (item.path().extension() == ".log" && item.path() > wal) wal = item.path();
  std::fstream file(wal, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(static_cast<std::streamoff>(fs::file_size(wal) / 2));
  file << "damaged";
  file.close();
  const auto look = [&](std::vector<std::string> more) {
    std::vector<std::string> words = {"debug", "raft-log", "--data-dir", (dir / "copy").string()};
    words.insert(words.end(), more.begin(), more.end());
    return run_muster(daemon, words);
  };
  const Outcome damaged = look({});
  EXPECT_EQ(damaged.code, 1);
  EXPECT_THAT(damaged.err, HasSubstr("Corruption"));
  EXPECT_THAT(damaged.out, HasSubstr("Damage:    cannot open the log"));
  EXPECT_THAT(damaged.out, HasSubstr("what was written after that is not shown\n"));
  EXPECT_THAT(damaged.out, HasSubstr("\n3            3        members         "));
  EXPECT_THAT(damaged.out, HasSubstr("\n4            3        data         40000\n"));
  EXPECT_THAT(damaged.out, Not(HasSubstr("\n7            3        data")));
  const auto json = boost::json::parse(look({"--json"}).out).as_object();
  EXPECT_THAT(std::string(json.at("Damage").as_string()), HasSubstr("Corruption"));
  EXPECT_FALSE(json.at("Entries").as_array().empty());
}

TEST_F(RaftLog, AsksForTheUnlockKey) {
  const auto key = security::UnlockKey::generate();
  lock = std::string(key.bytes());
  write();
  const Outcome good = show({}, key.str() + "\n");
  EXPECT_EQ(good.code, 0) << good.err;
  EXPECT_THAT(good.out, HasSubstr("wrapped with the unlock key"));
  EXPECT_EQ(show({}, "").code, 1);
  EXPECT_EQ(show({}, "").err,
            "muster: the log is locked and no unlock key was given: it is read from standard "
            "input\n");
  for (const std::string& wrong :
       {std::string("nonsense"), security::UnlockKey::generate().str()}) {
    const Outcome bad = show({}, wrong + "\n");
    EXPECT_EQ(bad.code, 1);
    EXPECT_THAT(bad.err, HasSubstr("invalid key provided"));
  }
}

}  // namespace
}  // namespace muster::deploy::cli
