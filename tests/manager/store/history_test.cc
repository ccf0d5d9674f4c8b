// How long changes are kept for watches that resume.
#include <gtest/gtest.h>

#include <string>

#include "base/sim_executor.h"
#include "manager/store/store.h"
#include "tests/manager/store/instant_proposer.h"

namespace muster::manager::store {
namespace {

class HistoryTest : public ::testing::Test {
 protected:
  HistoryTest() {
    store_.lead(1);
    write([](Transaction& tx) -> Status {
      v1::Cluster cluster;
      cluster.set_id("c1");
      cluster.mutable_spec()->mutable_annotations()->set_name("default");
      return tx.create(cluster);
    });
  }
  void write(Store::Body body) {
    store_.update(std::move(body), [](const Commit& commit) { EXPECT_TRUE(commit.status.ok()); });
    world_.settle();
  }
  void touch() {
    write([](Transaction& tx) -> Status { return tx.update(v1::Cluster(*tx.view().cluster())); });
  }
  void retain(Duration time) {
    write([time](Transaction& tx) -> Status {
      v1::Cluster cluster = *tx.view().cluster();
      cluster.mutable_spec()->set_event_retention_ns(time.count());
      return tx.update(std::move(cluster));
    });
  }
  // Commits that a watch from `ago` before now on would see, and whether that is all.
  std::pair<uint64_t, bool> seen_since(Duration ago) {
    const auto start = store_.history_since(world_.wall_now() - ago);
    return {store_.snapshot().version() - start.after_version, start.complete};
  }
  bool resumes(uint64_t version) {
    return store_.watch(version, [](const CommitEvent&) {}).has_value();
  }

  using Seen = std::pair<uint64_t, bool>;
  SimWorld world_;
  SimExecutor strand_{world_};
  InstantProposer proposer_{strand_};
  Store store_{strand_, &proposer_, null_log()};
};

TEST_F(HistoryTest, AnHourByDefault) {
  for (int i = 0; i < 3; ++i) {
    world_.advance(30min);
    touch();
  }
  // At 0 (the beginning), 30, 60 and 90 min; it is 90 min.
  EXPECT_EQ(seen_since(24h), Seen(3, false));
  EXPECT_EQ(seen_since(45min), Seen(2, true));
  EXPECT_TRUE(resumes(1));
  EXPECT_FALSE(resumes(0));
}

TEST_F(HistoryTest, AsLongAsTheClusterSays) {
  retain(2h);
  for (int i = 0; i < 3; ++i) {
    world_.advance(30min);
    touch();
  }
  EXPECT_EQ(seen_since(24h), Seen(5, true));
  retain(10min);
  EXPECT_EQ(seen_since(24h), Seen(2, false));
}

TEST_F(HistoryTest, AfterALongSilenceWhatIsKeptMayBeAllTheSame) {
  world_.advance(5h);
  touch();
  EXPECT_EQ(seen_since(10min), Seen(1, true));
  EXPECT_EQ(seen_since(6h), Seen(1, false));
}

}  // namespace
}  // namespace muster::manager::store
