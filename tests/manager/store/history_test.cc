// How long changes are kept for watches that resume.
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/rng.h"
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

std::map<std::string, std::string> images_of(const Snapshot& state) {
  std::map<std::string, std::string> images;
  state.each<v1::Service>([&](const auto& s) {
    images[s->id()] = s->spec().task().container().image();
    return true;
  });
  return images;
}

// The services' images, from a state and the changes since.
struct Resumed {
  void take(const CommitEvent& event) {
    EXPECT_GT(event.version, version);
    version = event.version;
    for (const AnyChange& any : *event.changes) {
      const auto* change = std::get_if<Change<v1::Service>>(&any);
      ASSERT_NE(change, nullptr);
      const std::string& id = (change->after ? change->after : change->before)->id();
      const auto found = images.find(id);
      ASSERT_EQ(found != images.end(), change->before != nullptr) << id;
      if (change->before) {
        EXPECT_EQ(found->second, change->before->spec().task().container().image());
        images.erase(found);
      }
      if (change->after) images[id] = change->after->spec().task().container().image();
    }
  }

  std::map<std::string, std::string> images;
  uint64_t version = 0;
  Store::Subscription subscription;
};

// Whoever holds the state of any version and resumes from it has, change by change, the state of
// now: none is missing, none comes twice, and each begins where the one before ended.
TEST_F(HistoryTest, AWatchThatResumesAnywhereIsTheExactDifference_B33) {
  SeededRng rng(33);
  const auto service = [&](uint64_t which) {
    v1::Service s;
    s.set_id(fmt::format("s{}", which));
    s.mutable_spec()->mutable_annotations()->set_name(fmt::format("name{}", which));
    s.mutable_spec()->mutable_task()->mutable_container()->set_image(rng.id());
    return s;
  };
  const auto change = [&] {
    write([&](Transaction& tx) -> Status {
      for (uint64_t which = 0; which < 6; ++which) {
        const auto known = tx.view().get<v1::Service>(fmt::format("s{}", which));
        if (rng.below(3) != 0) continue;
        if (known == nullptr) {
          MUSTER_TRY(tx.create(service(which)));
        } else if (rng.below(2) == 0) {
          MUSTER_TRY(tx.remove<v1::Service>(known->id()));
        } else {
          v1::Service next = *known;
          next.mutable_spec()->mutable_task()->mutable_container()->set_image(rng.id());
          MUSTER_TRY(tx.update(std::move(next)));
        }
      }
      return ok_status();
    });
  };
  std::vector<Snapshot> states{store_.snapshot()};
  for (int i = 0; i < 40; ++i) {
    change();
    if (store_.snapshot().version() != states.back().version()) states.push_back(store_.snapshot());
  }

  std::vector<std::unique_ptr<Resumed>> all;
  for (const Snapshot& state : states) {
    all.push_back(std::make_unique<Resumed>(Resumed{images_of(state), state.version(), {}}));
    Resumed& one = *all.back();
    auto subscription =
        store_.watch(state.version(), [&one](const CommitEvent& event) { one.take(event); });
    ASSERT_TRUE(subscription.has_value());
    one.subscription = *std::move(subscription);
    // Some commits come while what was is still being delivered.
    if (all.size() % 5 == 0) change();
  }
  for (int i = 0; i < 10; ++i) change();
  for (const auto& one : all) {
    EXPECT_EQ(one->version, store_.snapshot().version());
    EXPECT_EQ(one->images, images_of(store_.snapshot()));
  }
}

}  // namespace
}  // namespace muster::manager::store
