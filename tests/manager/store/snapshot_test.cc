#include "manager/store/snapshot.h"
#include "manager/store/network_leavers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/rng.h"
#include "base/sim_executor.h"
#include "manager/store/store.h"

namespace muster::manager::store {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class SnapshotTest : public testing::Test {
 protected:
  void apply(const v1::StoreEntry& entry) {
    const Status status = store.apply(++index, entry.SerializeAsString());
    ASSERT_TRUE(status.ok()) << status.to_string();
  }
  static v1::StoreEntry entry() {
    v1::StoreEntry e;
    e.set_feature_level(1);
    return e;
  }
  static void add_task(v1::StoreEntry& e, const std::string& id, const std::string& service,
                       uint64_t slot, const std::string& node, v1::TaskState state,
                       const std::vector<std::string>& networks = {}) {
    v1::Task& t = *e.add_changes()->mutable_task();
    t.set_id(id);
    t.set_service_id(service);
    t.set_slot(slot);
    t.set_node_id(node);
    t.mutable_status()->set_state(state);
    for (const std::string& n : networks) t.add_networks()->set_network_id(n);
  }
  using Ids = std::vector<std::string>;
  static Snapshot::Visit<v1::Task> into(Ids& ids) {
    return [&ids](const Ptr<v1::Task>& t) {
      ids.push_back(t->id());
      return true;
    };
  }
  Ids of_service(const std::string& id) {
    Ids ids;
    store.snapshot().tasks_of_service(id, into(ids));
    return ids;
  }
  Ids of_node(const std::string& id) {
    Ids ids;
    store.snapshot().tasks_of_node(id, into(ids));
    return ids;
  }
  Ids in_state(v1::TaskState s) {
    Ids ids;
    store.snapshot().tasks_in_state(s, into(ids));
    return ids;
  }
  Ids of_network(const std::string& id) {
    Ids ids;
    store.snapshot().tasks_of_network(id, into(ids));
    return ids;
  }

  Ids that_left(const std::string& id) {
    Ids ids;
    tasks_that_left(store.snapshot(), id, into(ids));
    return ids;
  }

  SimWorld world;
  SimExecutor strand{world};
  Store store{strand, nullptr, null_log()};
  uint64_t index = 0;
};

TEST_F(SnapshotTest, TaskIndexesFollowEveryChange) {
  v1::StoreEntry first = entry();
  add_task(first, "t3", "web", 2, "n1", v1::TASK_RUNNING, {"net1", "net2"});
  add_task(first, "t1", "web", 10, "n2", v1::TASK_PENDING, {"net1"});
  add_task(first, "t2", "web", 2, "n1", v1::TASK_FAILED);
  add_task(first, "t4", "db", 1, "", v1::TASK_NEW);
  apply(first);
  EXPECT_THAT(of_service("web"), ElementsAre("t2", "t3", "t1")) << "by slot, then id";
  EXPECT_THAT(of_service("we"), IsEmpty());
  EXPECT_THAT(of_node("n1"), ElementsAre("t2", "t3"));
  EXPECT_THAT(of_node(""), IsEmpty()) << "tasks without a node are in no node's list";
  EXPECT_THAT(in_state(v1::TASK_NEW), ElementsAre("t4"));
  EXPECT_THAT(in_state(v1::TASK_RUNNING), ElementsAre("t3"));
  EXPECT_THAT(of_network("net1"), ElementsAre("t1", "t3"));
  EXPECT_THAT(of_network("net2"), ElementsAre("t3"));
  Ids slot;
  store.snapshot().tasks_of_slot("web", 2, into(slot));
  EXPECT_THAT(slot, ElementsAre("t2", "t3"));

  const Snapshot before = store.snapshot();
  v1::StoreEntry second = entry();
  add_task(second, "t3", "web", 2, "n2", v1::TASK_SHUTDOWN, {"net2", "net3"});
  second.add_changes()->mutable_remove()->set_table(v1::TABLE_TASK);
  second.mutable_changes(1)->mutable_remove()->set_id("t2");
  apply(second);
  EXPECT_THAT(of_service("web"), ElementsAre("t3", "t1"));
  EXPECT_THAT(of_node("n1"), IsEmpty());
  EXPECT_THAT(of_node("n2"), ElementsAre("t1", "t3"));
  EXPECT_THAT(in_state(v1::TASK_RUNNING), IsEmpty());
  EXPECT_THAT(of_network("net1"), ElementsAre("t1"));
  EXPECT_THAT(of_network("net3"), ElementsAre("t3"));
  Ids old;
  before.tasks_of_node("n1", into(old));
  EXPECT_THAT(old, ElementsAre("t2", "t3")) << "an old snapshot keeps its indexes";
}

TEST_F(SnapshotTest, WhoHasLeftANetworkIsFoundUntilItsNodeHasSaidSo) {
  v1::StoreEntry first = entry();
  add_task(first, "t1", "web", 1, "n1", v1::TASK_RUNNING, {"net1"});
  add_task(first, "t2", "web", 2, "n1", v1::TASK_RUNNING, {"net1"});
  first.mutable_changes(1)->mutable_task()->add_left()->set_network_id("net2");
  apply(first);
  EXPECT_THAT(that_left("net1"), IsEmpty());
  EXPECT_THAT(that_left("net2"), ElementsAre("t2"));
  v1::StoreEntry second = entry();
  add_task(second, "t1", "web", 1, "n1", v1::TASK_RUNNING, {});
  second.mutable_changes(0)->mutable_task()->add_left()->set_network_id("net1");
  add_task(second, "t2", "web", 2, "n1", v1::TASK_RUNNING, {"net1"});
  apply(second);
  EXPECT_THAT(that_left("net1"), ElementsAre("t1"));
  EXPECT_THAT(that_left("net2"), IsEmpty());
}

TEST_F(SnapshotTest, VisitStopsWhenAsked) {
  v1::StoreEntry e = entry();
  for (int i = 0; i < 100; ++i) add_task(e, fmt::format("t{:03}", i), "s", 0, "n", v1::TASK_NEW);
  apply(e);
  int seen = 0;
  store.snapshot().each<v1::Task>([&](const auto&) { return ++seen < 7; });
  EXPECT_EQ(seen, 7);
}

TEST_F(SnapshotTest, ResolveTakesIdThenNameThenUniquePrefix) {
  v1::StoreEntry e = entry();
  const auto add = [&](const std::string& id, const std::string& name) {
    v1::Service& s = *e.add_changes()->mutable_service();
    s.set_id(id);
    s.mutable_spec()->mutable_annotations()->set_name(name);
  };
  add("abc1", "web");
  add("abc2", "abc1");  // a name that is another's id
  add("abd3", "ab");    // a name that is a prefix of ids
  apply(e);
  const Snapshot s = store.snapshot();
  const auto id_of = [&](const std::string& reference) {
    const auto found = s.resolve<v1::Service>(reference);
    return found ? (*found)->id() : found.error().to_string();
  };
  EXPECT_EQ(id_of("abc1"), "abc1");
  EXPECT_EQ(id_of("web"), "abc1");
  EXPECT_EQ(id_of("ab"), "abd3");
  EXPECT_EQ(id_of("abd"), "abd3");
  EXPECT_EQ(id_of("abc"), "invalid argument: service abc is ambiguous (2 matches found)");
  EXPECT_EQ(id_of("x"), "not found: service x not found");
  EXPECT_EQ(id_of(""), "not found: service  not found");
}

TEST_F(SnapshotTest, NodesOfOneHostnameAreAmbiguous) {
  v1::StoreEntry e = entry();
  for (const char* id : {"n1", "n2", "n3"}) {
    v1::Node& n = *e.add_changes()->mutable_node();
    n.set_id(id);
    n.mutable_description()->set_hostname(std::string(id) == "n3" ? "beta" : "alpha");
  }
  apply(e);
  EXPECT_EQ((*store.snapshot().resolve<v1::Node>("beta"))->id(), "n3");
  EXPECT_EQ(store.snapshot().resolve<v1::Node>("alpha").error().message(),
            "node alpha is ambiguous (2 matches found)");
}

TEST_F(SnapshotTest, RevisionsAndServicesOfNetwork) {
  v1::StoreEntry e = entry();
  for (const uint64_t number : {10, 9, 1}) {
    v1::Revision& r = *e.add_changes()->mutable_revision();
    r.set_id(revision_id("web", number));
    r.set_service_id("web");
    r.set_number(number);
  }
  v1::Service& s = *e.add_changes()->mutable_service();
  s.set_id("web");
  s.mutable_spec()->mutable_annotations()->set_name("web");
  s.mutable_spec()->mutable_task()->add_networks()->set_target("net1");
  apply(e);
  std::vector<uint64_t> numbers;
  store.snapshot().revisions_of_service("web", [&](const auto& r) {
    numbers.push_back(r->number());
    return true;
  });
  EXPECT_THAT(numbers, ElementsAre(1, 9, 10));
  int found = 0;
  const auto count = [&](const auto&) { return ++found > 0; };
  store.snapshot().services_of_network("net1", count);
  EXPECT_EQ(found, 1);
  store.snapshot().services_of_network("net2", count);
  EXPECT_EQ(found, 1);
}

// Names change hands inside one entry in every order of the entry's changes.
TEST_F(SnapshotTest, NamesSwapInOneEntry) {
  v1::StoreEntry e = entry();
  const auto add = [&](const std::string& id, const std::string& name) {
    v1::Service& s = *e.add_changes()->mutable_service();
    s.set_id(id);
    s.mutable_spec()->mutable_annotations()->set_name(name);
  };
  add("s1", "a");
  add("s2", "b");
  apply(e);
  for (const bool first_first : {true, false}) {
    e = entry();
    const Snapshot now = store.snapshot();
    const std::string of_s1 = now.find<v1::Service>("a")->id() == "s1" ? "b" : "a";
    const std::string of_s2 = of_s1 == "a" ? "b" : "a";
    if (first_first) {
      add("s1", of_s1);
      add("s2", of_s2);
    } else {
      add("s2", of_s2);
      add("s1", of_s1);
    }
    apply(e);
    EXPECT_EQ(store.snapshot().find<v1::Service>(of_s1)->id(), "s1");
    EXPECT_EQ(store.snapshot().find<v1::Service>(of_s2)->id(), "s2");
  }
}

// Random task changes; every index must list exactly what a scan of the table finds.
TEST_F(SnapshotTest, IndexesAgreeWithAScan) {
  SeededRng rng(42);
  const v1::TaskState states[] = {v1::TASK_NEW, v1::TASK_PENDING, v1::TASK_RUNNING};
  for (int round = 0; round < 60; ++round) {
    v1::StoreEntry e = entry();
    for (int i = 0; i < 40; ++i) {
      const std::string id = fmt::format("t{:03}", rng.below(300));
      if (rng.below(4) == 0) {
        e.add_changes()->mutable_remove()->set_table(v1::TABLE_TASK);
        e.mutable_changes(e.changes_size() - 1)->mutable_remove()->set_id(id);
      } else {
        add_task(e, id, fmt::format("s{}", rng.below(5)), rng.below(20),
                 fmt::format("n{}", rng.below(6)), states[rng.below(3)],
                 {fmt::format("net{}", rng.below(3)), fmt::format("net{}", rng.below(3))});
      }
    }
    apply(e);
    size_t by_service = 0;
    size_t by_node = 0;
    size_t by_state = 0;
    const Snapshot now = store.snapshot();
    for (int i = 0; i < 6; ++i) {
      by_service += of_service(fmt::format("s{}", i)).size();
      by_node += of_node(fmt::format("n{}", i)).size();
    }
    for (const v1::TaskState s : states) by_state += in_state(s).size();
    ASSERT_EQ(by_service, now.count<v1::Task>());
    ASSERT_EQ(by_node, now.count<v1::Task>());
    ASSERT_EQ(by_state, now.count<v1::Task>());
    for (int i = 0; i < 3; ++i) {
      const std::string network = fmt::format("net{}", i);
      Ids expected;
      now.each<v1::Task>([&](const Ptr<v1::Task>& t) {
        for (const auto& a : t->networks()) {
          if (a.network_id() == network) {
            expected.push_back(t->id());
            break;
          }
        }
        return true;
      });
      ASSERT_EQ(of_network(network), expected);
    }
  }
}

}  // namespace
}  // namespace muster::manager::store
