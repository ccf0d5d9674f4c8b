// What an entry carries when its transactions touch the same objects again and again.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "base/sim_executor.h"
#include "manager/store/store.h"
#include "muster/v1/log.pb.h"
#include "tests/manager/store/fake_proposer.h"

namespace muster::manager::store {
namespace {

v1::Task task(const std::string& id, uint64_t slot) {
  v1::Task t;
  t.set_id(id);
  t.set_service_id("web");
  t.set_slot(slot);
  return t;
}

class EntryTest : public testing::Test {
 protected:
  void SetUp() override { store.lead(proposer.term); }

  void update(Store::Body body) {
    store.update(std::move(body), [this](const Commit& c) { outcomes.push_back(c.status); });
  }
  void commit() {
    while (proposer.pending() > 0) proposer.commit();
    world.settle();
  }
  // An entry in flight, so that what follows shares the next one.
  void hold() {
    update([this](Transaction& tx) { return tx.create(task("held" + rng.id(), 1)); });
  }
  v1::StoreEntry last_entry() {
    v1::StoreEntry e;
    EXPECT_TRUE(e.ParseFromString(proposer.entries.back()));
    return e;
  }
  static std::string contents(const Snapshot& snapshot) {
    std::string all;
    EXPECT_TRUE(Store::save(snapshot, 1 << 20, [&](std::string chunk) {
                  all += chunk;
                  return ok_status();
                }).ok());
    return all;
  }

  SeededRng rng{1};
  SimWorld world;
  SimExecutor strand{world};
  FakeProposer proposer;
  Store store{strand, &proposer, null_log()};
  std::vector<Status> outcomes;
};

TEST_F(EntryTest, AnObjectTouchedTwiceIsWrittenOnce) {
  hold();
  update([](Transaction& tx) { return tx.create(task("t", 1)); });
  update([](Transaction& tx) {
    v1::Task t = *tx.view().get<v1::Task>("t");
    t.set_slot(2);
    return tx.update(std::move(t));
  });
  commit();
  const v1::StoreEntry entry = last_entry();
  ASSERT_EQ(entry.changes_size(), 1);
  EXPECT_EQ(entry.changes(0).task().slot(), 2U);
}

TEST_F(EntryTest, RemovedAndMadeAgainIsOneChange) {
  update([](Transaction& tx) { return tx.create(task("t", 1)); });
  commit();
  hold();
  update([](Transaction& tx) { return tx.remove<v1::Task>("t"); });
  update([](Transaction& tx) { return tx.create(task("t", 3)); });
  std::vector<AnyChange> seen;
  const auto watching = store.watch([&](const CommitEvent& e) { seen = *e.changes; });
  commit();
  ASSERT_EQ(last_entry().changes_size(), 1);
  EXPECT_EQ(last_entry().changes(0).task().slot(), 3U);
  ASSERT_EQ(seen.size(), 1U);
  const auto& change = std::get<Change<v1::Task>>(seen[0]);
  EXPECT_EQ(change.before->slot(), 1U);
  EXPECT_EQ(change.after->slot(), 3U);
}

TEST_F(EntryTest, ReplaceTakesTheStoredObjectOnly) {
  update([](Transaction& tx) { return tx.create(task("t", 1)); });
  commit();
  const Ptr<v1::Task> seen = store.snapshot().get<v1::Task>("t");
  const auto replace = [&](const Ptr<v1::Task>& what, uint64_t slot) {
    outcomes.clear();
    update([=](Transaction& tx) {
      v1::Task next = *what;
      next.set_slot(slot);
      return tx.replace<v1::Task>(what, std::move(next));
    });
    commit();
    return outcomes.at(0);
  };
  EXPECT_TRUE(replace(seen, 2).ok());
  const Ptr<v1::Task> now = store.snapshot().get<v1::Task>("t");
  EXPECT_EQ(now->slot(), 2U);
  EXPECT_EQ(now->meta().created_at_ns(), seen->meta().created_at_ns());
  EXPECT_GT(now->meta().version(), seen->meta().version());

  const Status stale = replace(seen, 3);
  EXPECT_EQ(stale.code(), StatusCode::kAborted);
  EXPECT_EQ(stale.message(), "update out of sequence");
  EXPECT_TRUE(replace(std::make_shared<v1::Task>(*now), 4).ok()) << "a copy is as good";
  EXPECT_EQ(replace(std::make_shared<v1::Task>(task("other", 1)), 1).code(), StatusCode::kNotFound);
}

// Whatever transactions do to a handful of objects, a member that applies the entries has the
// leader's state, byte for byte, and no object is in an entry twice.
TEST_F(EntryTest, RandomTransactionsReplayToTheSameState) {
  Store follower(strand, nullptr, null_log());
  size_t replayed = 0;
  for (int round = 0; round < 400; ++round) {
    const uint64_t transactions = 1 + rng.below(8);
    for (uint64_t i = 0; i < transactions; ++i) {
      const uint64_t kind = rng.below(4);
      const std::string id = std::string("t") + std::to_string(rng.below(5));
      const uint64_t slot = rng.below(1000);
      update([=](Transaction& tx) -> Status {
        const Ptr<v1::Task> now = tx.view().get<v1::Task>(id);
        if (now == nullptr) return tx.create(task(id, slot));
        if (kind == 0) return tx.remove<v1::Task>(id);
        v1::Task next = *now;
        next.set_slot(slot);
        if (kind == 1) return tx.replace<v1::Task>(now, std::move(next));
        MUSTER_TRY(tx.update(next));
        return kind == 2 ? ok_status() : invalid_argument("undone");
      });
    }
    while (proposer.pending() > 0) {
      const uint64_t index = proposer.index + 1;
      const std::string bytes = proposer.entries.at(replayed++);
      v1::StoreEntry entry;
      ASSERT_TRUE(entry.ParseFromString(bytes));
      std::vector<std::string> ids;
      for (const auto& change : entry.changes()) {
        ids.push_back(change.has_task() ? change.task().id() : change.remove().id());
      }
      std::sort(ids.begin(), ids.end());
      EXPECT_EQ(std::adjacent_find(ids.begin(), ids.end()), ids.end()) << "round " << round;
      proposer.commit();
      ASSERT_TRUE(follower.apply(index, bytes).ok());
    }
    world.settle();
    ASSERT_EQ(contents(follower.snapshot()), contents(store.snapshot())) << "round " << round;
  }
  EXPECT_GT(replayed, 300U);
}

}  // namespace
}  // namespace muster::manager::store
