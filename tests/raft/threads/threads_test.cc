// Three members in one process with everything real: RocksDB, gRPC with mutual TLS, threads. What
// the virtual-time tests cannot see: races. The thread sanitizer runs it, too (tests/race/run.sh).
#include <gtest/gtest.h>

#include <algorithm>
#include <future>
#include <set>

#include "tests/raft/threads/real_member.h"

namespace muster::raft {
namespace {

class RaftThreads : public ::testing::Test {
 protected:
  RaftThreads() {
    std::string name = (std::filesystem::temp_directory_path() / "muster-raft-XXXXXX").string();
    dir_ = ::mkdtemp(name.data());
    for (uint64_t i = 1; i <= 3; ++i) {
      members_.push_back(std::make_unique<RealMember>(issuer_, i, dir_ / fmt::format("{}", i)));
      // Nobody is to lose the lead but by what a test does.
      members_.back()->be_patient();
    }
  }
  ~RaftThreads() override {
    for (auto& member : members_) member->stop();
    members_.clear();
    std::filesystem::remove_all(dir_);
  }

  void found(uint64_t snapshot_entries = 10'000) {
    snapshot_entries_ = snapshot_entries;
    Members group;
    group.put(one(1).self());
    one(1).start(StartMode::kFound, {}, snapshot_entries);
    ASSERT_TRUE(one(1).ledger().eventually([&] { return one(1).ledger().leading() != 0; }));
    for (const uint64_t i : {2, 3}) {
      one(i).start(StartMode::kJoin, group, snapshot_entries);
      ask([&](auto done) { one(1).node().add_learner(one(i).self(), std::move(done)); });
      ASSERT_TRUE(one(1).ledger().eventually([&] {
        const GroupView view = one(1).node().view();
        const MemberView* joiner = view.find({i});
        return joiner != nullptr && joiner->caught_up;
      }));
      ask([&](auto done) { one(1).node().promote({i}, std::move(done)); });
    }
  }

  // A call of member 1's that is answered with OK.
  void ask(const std::function<void(Group::Done)>& call) {
    std::promise<Status> answer;
    one(1).strand().post(
        [&] { call([&](Status status) { answer.set_value(std::move(status)); }); });
    auto future = answer.get_future();
    ASSERT_EQ(future.wait_for(kPatience), std::future_status::ready);
    const Status status = future.get();
    EXPECT_TRUE(status.ok()) << status.message();
  }

  RealMember& one(uint64_t number) { return *members_[number - 1]; }
  RealMember* leader() {
    for (auto& member : members_) {
      if (member->runs() && member->ledger().leading() != 0) return member.get();
    }
    return nullptr;
  }
  RealMember& await_leader() {
    auto& watched = **std::find_if(members_.begin(), members_.end(),
                                   [](const auto& member) { return member->runs(); });
    RealMember* found = nullptr;
    EXPECT_TRUE(watched.ledger().eventually([&] { return (found = leader()) != nullptr; }));
    return found != nullptr ? *found : watched;
  }

  // `count` proposals by several threads at once; what was acknowledged.
  std::set<std::string> write(RealMember& at, int count, const std::string& name) {
    constexpr int kThreads = 4;
    std::mutex mutex;
    std::condition_variable answered;
    int open = count;
    std::set<std::string> acknowledged;
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        for (int i = t; i < count; i += kThreads) {
          const std::string payload = fmt::format("{} {}", name, i);
          at.propose(payload, [&, payload](Outcome outcome) {
            std::lock_guard lock(mutex);
            if (outcome == Outcome::kCommitted) acknowledged.insert(payload);
            if (--open == 0) answered.notify_all();
          });
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    std::unique_lock lock(mutex);
    EXPECT_TRUE(answered.wait_for(lock, kPatience, [&] { return open == 0; }));
    return acknowledged;
  }

  // All that run have the same entries, each once, and all that was acknowledged.
  void agree(const std::set<std::string>& acknowledged) {
    RealMember& first = await_leader();
    ASSERT_TRUE(first.ledger().eventually([&] {
      const auto entries = first.ledger().entries();
      return std::all_of(members_.begin(), members_.end(), [&](const auto& member) {
        return !member->runs() || member->ledger().entries() == entries;
      });
    })) << sizes();
    const auto entries = first.ledger().entries();
    const std::set<std::string> once(entries.begin(), entries.end());
    EXPECT_EQ(once.size(), entries.size());
    EXPECT_TRUE(std::includes(once.begin(), once.end(), acknowledged.begin(), acknowledged.end()));
  }

  // How much each member has, for who reads that a test failed.
  std::string sizes() const {
    std::string said;
    for (const auto& member : members_) {
      if (!member->runs()) continue;
      said += fmt::format("member {} has {} entries, term as leader {}\n", member->self().id.value,
                          member->ledger().entries().size(), member->ledger().leading());
    }
    return said;
  }

  Issuer issuer_;
  std::filesystem::path dir_;
  std::vector<std::unique_ptr<RealMember>> members_;
  uint64_t snapshot_entries_ = 0;
};

TEST_F(RaftThreads, WhatManyProposeAtOnceIsInOneOrderEverywhere) {
  ASSERT_NO_FATAL_FAILURE(found());
  const auto acknowledged = write(one(1), 400, "a");
  EXPECT_EQ(acknowledged.size(), 400U);
  agree(acknowledged);
}

TEST_F(RaftThreads, LeadersComeAndGoUnderLoad) {
  ASSERT_NO_FATAL_FAILURE(found());
  std::set<std::string> acknowledged;
  for (int round = 0; round < 3; ++round) {
    RealMember& leading = await_leader();
    const size_t before = leading.ledger().entries().size();
    auto writes = std::async(std::launch::async,
                             [&] { return write(leading, 100, fmt::format("round {}", round)); });
    const Term term = leading.ledger().leading();
    // Not before something got through.
    ASSERT_TRUE(
        leading.ledger().eventually([&] { return leading.ledger().entries().size() > before; }));
    leading.strand().post(
        [&leading] { leading.node().transfer_leadership({}, [](const Status&) {}); });
    acknowledged.merge(writes.get());
    ASSERT_TRUE(leading.ledger().eventually([&] {
      RealMember* now = leader();
      return now != nullptr && now->ledger().leading() > term;
    }));
  }
  EXPECT_FALSE(acknowledged.empty());
  agree(acknowledged);
}

TEST_F(RaftThreads, AMemberThatWasAwayGetsASnapshotAndTheRest) {
  ASSERT_NO_FATAL_FAILURE(found(20));
  one(3).stop();
  auto acknowledged = write(await_leader(), 200, "a");
  one(3).start(StartMode::kRestore, {}, 20);
  EXPECT_TRUE(one(3).ledger().eventually([&] { return one(3).ledger().restores() > 0; }));
  acknowledged.merge(write(await_leader(), 50, "b"));
  agree(acknowledged);
}

TEST_F(RaftThreads, EverythingIsThereAfterAllWereStopped) {
  ASSERT_NO_FATAL_FAILURE(found(50));
  const auto acknowledged = write(one(1), 120, "a");
  for (auto& member : members_) member->stop();
  // They have to elect somebody.
  for (auto& member : members_) member->be_patient(false);
  for (auto& member : members_) member->start(StartMode::kRestore, {}, 50);
  agree(acknowledged);
}

TEST_F(RaftThreads, ANewCertificateOfTheLeaderUnseatsNobody) {
  ASSERT_NO_FATAL_FAILURE(found());
  RealMember& leading = await_leader();
  const Term term = leading.ledger().leading();
  std::set<std::string> acknowledged;
  for (int i = 0; i < 5; ++i) {
    leading.rotate_certificate();
    // Every connection to it and from it is made anew, and shows the certificate.
    RealMember& other = one(leading.self().id.value % 3 + 1);
    other.stop();
    other.start(StartMode::kRestore, {});
    acknowledged.merge(write(leading, 20, fmt::format("certificate {}", i)));
  }
  EXPECT_EQ(acknowledged.size(), 100U);
  EXPECT_EQ(leading.ledger().leading(), term);
  agree(acknowledged);
}

}  // namespace
}  // namespace muster::raft
