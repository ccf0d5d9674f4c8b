#include "manager/store/store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "base/sim_executor.h"
#include "muster/v1/log.pb.h"
#include "tests/manager/store/fake_proposer.h"

namespace muster::manager::store {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

v1::Service service(const std::string& id, const std::string& name) {
  v1::Service s;
  s.set_id(id);
  s.mutable_spec()->mutable_annotations()->set_name(name);
  return s;
}

class StoreTest : public testing::Test {
 protected:
  void SetUp() override { store.lead(proposer.term); }

  // Queues a transaction; its commit turns up at the returned place.
  std::shared_ptr<std::optional<Commit>> update(Store::Body body) {
    auto out = std::make_shared<std::optional<Commit>>();
    store.update(std::move(body), [out](const Commit& c) { *out = c; });
    return out;
  }
  std::shared_ptr<std::optional<Commit>> create_service(const std::string& id,
                                                        const std::string& name) {
    return update([=](Transaction& tx) { return tx.create(service(id, name)); });
  }
  void commit() {
    proposer.commit();
    world.settle();
  }
  v1::StoreEntry entry(size_t i) {
    v1::StoreEntry e;
    EXPECT_TRUE(e.ParseFromString(proposer.entries.at(i)));
    return e;
  }

  SimWorld world;
  SimExecutor strand{world};
  FakeProposer proposer;
  Store store{strand, &proposer, null_log()};
};

TEST_F(StoreTest, IdleStoreRunsAndProposesAtOnce) {
  const auto done = create_service("s1", "web");
  ASSERT_EQ(proposer.pending(), 1U);
  EXPECT_EQ(proposer.terms[0], 7U);
  EXPECT_EQ(store.snapshot().get<v1::Service>("s1"), nullptr) << "uncommitted is invisible";
  world.settle();
  EXPECT_FALSE(done->has_value());
  commit();
  ASSERT_TRUE(done->has_value());
  EXPECT_TRUE((*done)->status.ok());
  EXPECT_EQ((*done)->version, 101U);
  EXPECT_EQ(store.snapshot().version(), 101U);
}

TEST_F(StoreTest, MetaIsTheIndexAndTheEntrysTime) {
  world.advance(5s);
  v1::Service s = service("s1", "web");
  s.mutable_meta()->set_version(999);
  s.mutable_meta()->set_created_at_ns(1);
  update([=](Transaction& tx) { return tx.create(s); });
  const int64_t then = world.wall_now().unix_ns;
  world.advance(3s);
  proposer.index = 140;
  commit();
  const auto stored = store.snapshot().get<v1::Service>("s1");
  EXPECT_EQ(stored->meta().version(), 141U);
  EXPECT_EQ(stored->meta().created_at_ns(), then);
  EXPECT_EQ(stored->meta().updated_at_ns(), then);

  v1::Service changed = *stored;
  changed.mutable_meta()->set_created_at_ns(0);
  update([=](Transaction& tx) { return tx.update(changed); });
  commit();
  const auto again = store.snapshot().get<v1::Service>("s1");
  EXPECT_EQ(again->meta().version(), 142U);
  EXPECT_EQ(again->meta().created_at_ns(), then);
  EXPECT_EQ(again->meta().updated_at_ns(), world.wall_now().unix_ns);
  EXPECT_EQ(stored->meta().version(), 141U) << "a stored object never changes";
}

TEST_F(StoreTest, OneEntryInFlightAndTheQueueBecomesTheNext) {
  const auto first = create_service("s1", "a");
  const auto second = create_service("s2", "b");
  const auto third = create_service("s3", "c");
  EXPECT_EQ(proposer.entries.size(), 1U);
  commit();
  EXPECT_TRUE(first->has_value());
  EXPECT_FALSE(second->has_value());
  ASSERT_EQ(proposer.entries.size(), 2U);
  EXPECT_EQ(entry(1).changes_size(), 2);
  commit();
  EXPECT_TRUE((*second)->status.ok());
  EXPECT_TRUE((*third)->status.ok());
  EXPECT_EQ((*second)->version, (*third)->version);
}

TEST_F(StoreTest, FailingTransactionUndoesOnlyItself) {
  create_service("s0", "x");
  const auto good = create_service("s1", "a");
  const auto bad = update([](Transaction& tx) -> Status {
    MUSTER_TRY(tx.create(service("s2", "b")));
    v1::Service s1 = *tx.view().get<v1::Service>("s1");
    s1.mutable_spec()->mutable_annotations()->set_name("renamed");
    MUSTER_TRY(tx.update(s1));
    MUSTER_TRY(tx.remove<v1::Service>("s0"));
    return failed_precondition("changed my mind");
  });
  const auto last = update([](Transaction& tx) -> Status {
    EXPECT_NE(tx.view().find<v1::Service>("a"), nullptr);
    EXPECT_EQ(tx.view().find<v1::Service>("renamed"), nullptr);
    EXPECT_EQ(tx.view().get<v1::Service>("s2"), nullptr);
    return tx.create(service("s3", "b"));
  });
  commit();
  commit();
  EXPECT_TRUE((*good)->status.ok());
  EXPECT_EQ((*bad)->status, failed_precondition("changed my mind"));
  EXPECT_TRUE((*last)->status.ok());
  const Snapshot now = store.snapshot();
  EXPECT_EQ(now.count<v1::Service>(), 3U);
  EXPECT_EQ(now.find<v1::Service>("b")->id(), "s3");
}

TEST_F(StoreTest, LaterTransactionsOfAnEntrySeeEarlierOnes) {
  create_service("s0", "x");
  create_service("s1", "a");
  const auto rename = update([](Transaction& tx) -> Status {
    v1::Service s = *tx.view().get<v1::Service>("s1");
    s.mutable_spec()->mutable_annotations()->set_name("b");
    return tx.update(s);
  });
  const auto reuse = create_service("s2", "a");
  commit();
  commit();
  EXPECT_TRUE((*rename)->status.ok());
  EXPECT_TRUE((*reuse)->status.ok());
  EXPECT_EQ(entry(1).changes_size(), 2) << "one object, one change";
  EXPECT_EQ(store.snapshot().find<v1::Service>("a")->id(), "s2");
  EXPECT_EQ(store.snapshot().find<v1::Service>("b")->id(), "s1");
}

TEST_F(StoreTest, AViewKeptDuringATransactionDoesNotChange) {
  create_service("s1", "a");
  commit();
  update([](Transaction& tx) -> Status {
    const Snapshot before = tx.view();
    MUSTER_TRY(tx.create(service("s2", "b")));
    const Snapshot middle = tx.view();
    MUSTER_TRY(tx.remove<v1::Service>("s1"));
    EXPECT_EQ(before.count<v1::Service>(), 1U);
    EXPECT_EQ(middle.count<v1::Service>(), 2U);
    EXPECT_EQ(tx.view().count<v1::Service>(), 1U);
    EXPECT_NE(before.find<v1::Service>("a"), nullptr);
    return ok_status();
  });
  commit();
}

struct Refusal {
  const char* name;
  Status (*body)(Transaction&);
  StatusCode code;
  const char* text;
};
class Refusals : public StoreTest, public testing::WithParamInterface<Refusal> {};

TEST_P(Refusals, AreExplainedAndChangeNothing) {
  create_service("s1", "web");
  commit();
  const auto done = update(GetParam().body);
  world.settle();
  ASSERT_TRUE(done->has_value()) << "nothing in flight, nothing to wait for";
  EXPECT_EQ((*done)->status.code(), GetParam().code);
  EXPECT_THAT((*done)->status.message(), HasSubstr(GetParam().text));
  EXPECT_EQ(proposer.entries.size(), 1U);
}

INSTANTIATE_TEST_SUITE_P(
    Table, Refusals,
    testing::Values(
        Refusal{"TakenId", [](Transaction& tx) { return tx.create(service("s1", "other")); },
                StatusCode::kAlreadyExists, "service s1 already exists"},
        Refusal{"TakenName", [](Transaction& tx) { return tx.create(service("s2", "web")); },
                StatusCode::kAlreadyExists, "service web already exists"},
        Refusal{"NoId", [](Transaction& tx) { return tx.create(service("", "n")); },
                StatusCode::kInvalidArgument, "must have an id"},
        Refusal{"NoName", [](Transaction& tx) { return tx.create(service("s2", "")); },
                StatusCode::kInvalidArgument, "must have a name"},
        Refusal{"UpdateMissing", [](Transaction& tx) { return tx.update(service("s9", "n")); },
                StatusCode::kNotFound, "service s9 not found"},
        Refusal{"RemoveMissing", [](Transaction& tx) { return tx.remove<v1::Node>("n1"); },
                StatusCode::kNotFound, "node n1 not found"},
        Refusal{"StaleVersion", [](Transaction& tx) { return tx.update(service("s1", "web")); },
                StatusCode::kAborted, "update out of sequence"}),
    [](const auto& info) { return info.param.name; });

TEST_F(StoreTest, StaleVersionHasItsReason) {
  create_service("s1", "web");
  commit();
  const v1::Service old = *store.snapshot().get<v1::Service>("s1");
  create_service("s0", "x");  // in flight, so that the next two share an entry
  update([=](Transaction& tx) { return tx.update(old); });
  const auto second = update([=](Transaction& tx) { return tx.update(old); });
  proposer.commit();
  EXPECT_FALSE(second->has_value()) << "the refusal rests on an uncommitted change of this entry";
  commit();
  ASSERT_TRUE(second->has_value());
  EXPECT_EQ((*second)->status.reason(), "out-of-sequence");
}

TEST_F(StoreTest, ChangingNothingNeedsNoEntry) {
  const auto done = update([](Transaction&) { return ok_status(); });
  EXPECT_FALSE(done->has_value()) << "never from inside update()";
  world.settle();
  ASSERT_TRUE(done->has_value());
  EXPECT_TRUE((*done)->status.ok());
  EXPECT_TRUE(proposer.entries.empty());
}

TEST_F(StoreTest, WhatCancelsItselfOutNeedsNoEntry) {
  const auto done = update([](Transaction& tx) -> Status {
    MUSTER_TRY(tx.create(service("s1", "a")));
    return tx.remove<v1::Service>("s1");
  });
  world.settle();
  ASSERT_TRUE(done->has_value());
  EXPECT_TRUE((*done)->status.ok());
  EXPECT_TRUE(proposer.entries.empty());
}

TEST_F(StoreTest, ChangingNothingBehindAnEntryWaitsForIt) {
  create_service("s0", "x");
  create_service("s1", "a");
  const auto reader = update([](Transaction& tx) {
    EXPECT_NE(tx.view().get<v1::Service>("s1"), nullptr);
    return ok_status();
  });
  commit();
  EXPECT_FALSE(reader->has_value());
  commit();
  ASSERT_TRUE(reader->has_value());
  EXPECT_EQ((*reader)->version, 102U);
}

TEST_F(StoreTest, UnknownOutcomeDiscardsTheQueue) {
  const auto flying = create_service("s1", "a");
  bool ran = false;
  const auto queued = update([&](Transaction&) {
    ran = true;
    return ok_status();
  });
  proposer.lose();
  world.settle();
  EXPECT_EQ((*flying)->status.code(), StatusCode::kUnknown);
  EXPECT_EQ((*flying)->status.reason(), "outcome-unknown");
  EXPECT_EQ((*queued)->status.reason(), "not-leader");
  EXPECT_FALSE(ran);
  EXPECT_FALSE(store.leading());
  EXPECT_EQ(store.snapshot().version(), 0U);
  // It turns up after all, through the log.
  ASSERT_TRUE(store.apply(105, proposer.entries[0]).ok());
  EXPECT_EQ(store.snapshot().get<v1::Service>("s1")->meta().version(), 105U);
}

TEST_F(StoreTest, RejectedEntryLeavesNoTraceAndTheQueueGoesOn) {
  const auto flying = create_service("s1", "a");
  const auto queued = create_service("s2", "a");
  proposer.reject(resource_exhausted("the disk is full"));
  world.settle();
  EXPECT_EQ((*flying)->status, resource_exhausted("the disk is full"));
  EXPECT_EQ(store.snapshot().count<v1::Service>(), 0U);
  commit();
  EXPECT_TRUE((*queued)->status.ok()) << "the name is free again";
}

TEST_F(StoreTest, RejectionForLostLeadershipEndsTheTerm) {
  const auto flying = create_service("s1", "a");
  const auto queued = create_service("s2", "b");
  proposer.term = 0;
  proposer.reject(internal_error("stepped down"));
  world.settle();
  EXPECT_EQ((*flying)->status.reason(), "not-leader");
  EXPECT_EQ((*queued)->status.reason(), "not-leader");
  EXPECT_FALSE(store.leading());
}

TEST_F(StoreTest, EndOfLeadershipAnswersEverybody) {
  const auto flying = create_service("s1", "a");
  const auto queued = create_service("s2", "b");
  store.end_leading();
  const auto late = create_service("s3", "c");
  world.settle();
  EXPECT_EQ((*flying)->status.reason(), "outcome-unknown");
  EXPECT_EQ((*queued)->status.reason(), "not-leader");
  EXPECT_EQ((*late)->status.reason(), "not-leader");
  // The log says later that it was committed: it is applied all the same.
  commit();
  EXPECT_NE(store.snapshot().get<v1::Service>("s1"), nullptr);
  EXPECT_EQ(proposer.pending(), 0U);
}

TEST_F(StoreTest, RequestIdMakesRepeatingSafe) {
  int runs = 0;
  std::vector<Commit> commits;
  const auto send = [&] {
    store.update(
        UpdateOptions{"req-1"},
        [&](Transaction& tx) -> Result<std::string> {
          ++runs;
          MUSTER_TRY(tx.create(service(fmt::format("s{}", runs), fmt::format("n{}", runs))));
          return fmt::format("s{}", runs);
        },
        [&](const Commit& c) { commits.push_back(c); });
  };
  send();
  send();  // while the first is in flight
  commit();
  send();  // long after
  world.settle();
  EXPECT_EQ(runs, 1);
  ASSERT_EQ(commits.size(), 3U);
  for (const Commit& c : commits) {
    EXPECT_TRUE(c.status.ok());
    EXPECT_EQ(c.object_id, "s1");
  }
  EXPECT_EQ(proposer.entries.size(), 1U);
}

TEST_F(StoreTest, RequestIdsAreForgottenAfterAnHourWithALaterEntry) {
  store.update(
      UpdateOptions{"req-1"},
      [](Transaction& tx) -> Result<std::string> {
        MUSTER_TRY(tx.create(service("s1", "a")));
        return std::string("s1");
      },
      [](const Commit&) {});
  commit();
  world.advance(59min);
  create_service("s2", "b");
  commit();
  EXPECT_EQ(store.snapshot().count<v1::AppliedRequest>(), 1U);
  world.advance(2min);
  EXPECT_EQ(store.snapshot().count<v1::AppliedRequest>(), 1U);
  create_service("s3", "c");
  commit();
  EXPECT_EQ(store.snapshot().count<v1::AppliedRequest>(), 0U);
  EXPECT_EQ(entry(2).changes_size(), 2);
}

TEST_F(StoreTest, WhatDoesNotFitTheEntryGoesIntoTheNext) {
  create_service("s0", "x");
  std::vector<std::shared_ptr<std::optional<Commit>>> commits;
  for (int i = 1; i <= 4; ++i) {
    commits.push_back(update([i](Transaction& tx) {
      v1::Service s = service(fmt::format("s{}", i), fmt::format("n{}", i));
      s.set_allocation_error(std::string(600'000, 'x'));
      return tx.create(s);
    }));
  }
  commit();
  EXPECT_EQ(entry(1).changes_size(), 2);
  EXPECT_LE(proposer.entries[1].size(), Store::kEntryBytesMax);
  commit();
  EXPECT_TRUE(commits[1]->has_value());
  EXPECT_FALSE(commits[2]->has_value());
  EXPECT_EQ(entry(2).changes_size(), 2);
  commit();
  EXPECT_TRUE((*commits[3])->status.ok());
}

TEST_F(StoreTest, TransactionLargerThanAnEntryIsRefused) {
  const auto done = update([](Transaction& tx) {
    v1::Service s = service("s1", "a");
    s.set_allocation_error(std::string(Store::kEntryBytesMax, 'x'));
    return tx.create(s);
  });
  world.settle();
  ASSERT_TRUE(done->has_value());
  EXPECT_EQ((*done)->status.code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(proposer.entries.size(), 0U);
  EXPECT_EQ(store.snapshot().count<v1::Service>(), 0U);
}

TEST_F(StoreTest, QueueIsBounded) {
  create_service("s0", "x");
  for (size_t i = 0; i < Store::kQueuedTransactionsMax; ++i) {
    store.update([](Transaction&) { return ok_status(); }, [](const Commit&) {});
  }
  const auto over = create_service("s1", "a");
  world.settle();
  ASSERT_TRUE(over->has_value());
  EXPECT_EQ((*over)->status.code(), StatusCode::kResourceExhausted);
}

TEST_F(StoreTest, LongQueueOfReadersDrainsInSteps) {
  create_service("s0", "x");
  size_t answered = 0;
  for (size_t i = 0; i < 3 * Store::kEntryTransactionsMax; ++i) {
    store.update([](Transaction&) { return ok_status(); }, [&](const Commit&) { ++answered; });
  }
  commit();
  EXPECT_EQ(answered, 3 * Store::kEntryTransactionsMax);
}

TEST_F(StoreTest, ApplyOfTheEntryGivesTheLeadersState) {
  create_service("s1", "a");
  update([](Transaction& tx) -> Status {
    v1::Service s = *tx.view().get<v1::Service>("s1");
    s.mutable_spec()->mutable_annotations()->set_name("b");
    MUSTER_TRY(tx.update(s));
    MUSTER_TRY(tx.create(service("s2", "a")));
    v1::Task t;
    t.set_id("t1");
    t.set_service_id("s2");
    return tx.create(t);
  });
  commit();
  update([](Transaction& tx) { return tx.remove<v1::Service>("s1"); });
  commit();
  commit();

  Store follower(strand, nullptr, null_log());
  std::vector<uint64_t> seen;
  const auto subscription =
      follower.watch([&](const CommitEvent& e) { seen.push_back(e.version); });
  for (size_t i = 0; i < proposer.entries.size(); ++i) {
    ASSERT_TRUE(follower.apply(101 + i, proposer.entries[i]).ok());
  }
  EXPECT_THAT(seen, ElementsAre(101, 102, 103));
  std::string ours;
  std::string theirs;
  const auto save = [](const Store& s, std::string& out) {
    return Store::save(s.snapshot(), 1 << 20, [&](std::string chunk) {
      out += chunk;
      return ok_status();
    });
  };
  ASSERT_TRUE(save(store, ours).ok());
  ASSERT_TRUE(save(follower, theirs).ok());
  EXPECT_EQ(ours, theirs);
}

TEST_F(StoreTest, ApplyRefusesWhatItMustNotTake) {
  Store follower(strand, nullptr, null_log());
  v1::StoreEntry future;
  future.set_feature_level(Store::kFeatureLevel + 1);
  const Status level = follower.apply(1, future.SerializeAsString());
  EXPECT_EQ(level.code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(level.reason(), "feature-level");
  EXPECT_THAT(level.message(), HasSubstr("upgrade muster"));

  EXPECT_EQ(follower.apply(1, "\xff\xff\xff").code(), StatusCode::kDataLoss);
  v1::StoreEntry empty_change;
  empty_change.set_feature_level(1);
  empty_change.add_changes();
  EXPECT_EQ(follower.apply(1, empty_change.SerializeAsString()).code(), StatusCode::kDataLoss);
  v1::StoreEntry no_id;
  no_id.set_feature_level(1);
  no_id.add_changes()->mutable_node();
  EXPECT_EQ(follower.apply(1, no_id.SerializeAsString()).code(), StatusCode::kDataLoss);
  v1::StoreEntry odd_table;
  odd_table.set_feature_level(1);
  odd_table.add_changes()->mutable_remove()->set_table(static_cast<v1::Table>(99));
  EXPECT_EQ(follower.apply(1, odd_table.SerializeAsString()).code(), StatusCode::kDataLoss);
  EXPECT_EQ(follower.snapshot().version(), 0U);

  v1::StoreEntry fine;
  fine.set_feature_level(1);
  EXPECT_TRUE(follower.apply(3, fine.SerializeAsString()).ok());
  EXPECT_FALSE(follower.apply(3, fine.SerializeAsString()).ok()) << "twice";
}

TEST_F(StoreTest, SaveAndLoadInManyChunks) {
  for (int i = 0; i < 50; ++i) {
    update([i](Transaction& tx) -> Status {
      MUSTER_TRY(tx.create(service(fmt::format("s{:02}", i), fmt::format("n{}", i))));
      v1::Task t;
      t.set_id(fmt::format("t{:02}", i));
      t.set_service_id("s00");
      t.set_slot(static_cast<uint64_t>(i));
      return tx.create(t);
    });
  }
  commit();
  commit();
  std::vector<std::string> chunks;
  const Snapshot saved = store.snapshot();
  ASSERT_TRUE(Store::save(saved, 300, [&](std::string chunk) {
                chunks.push_back(std::move(chunk));
                return ok_status();
              }).ok());
  EXPECT_GT(chunks.size(), 5U);

  Store other(strand, nullptr, null_log());
  v1::StoreEntry before;
  before.set_feature_level(1);
  *before.add_changes()->mutable_service() = service("old", "n1");
  ASSERT_TRUE(other.apply(1, before.SerializeAsString()).ok());
  size_t created = 0;
  size_t removed = 0;
  const auto subscription = other.watch([&](const CommitEvent& e) {
    for (const AnyChange& change : *e.changes) {
      std::visit([&](const auto& c) { (c.after != nullptr ? created : removed) += 1; }, change);
    }
  });
  ASSERT_TRUE(other.load_begin().ok());
  for (const std::string& chunk : chunks) ASSERT_TRUE(other.load_chunk(chunk).ok());
  ASSERT_TRUE(other.load_end().ok());
  EXPECT_EQ(other.snapshot().version(), saved.version());
  EXPECT_EQ(other.snapshot().count<v1::Service>(), 50U);
  EXPECT_EQ(other.snapshot().find<v1::Service>("n1")->id(), "s01");
  EXPECT_EQ(other.snapshot().get<v1::Task>("t07")->meta().version(),
            saved.get<v1::Task>("t07")->meta().version());
  EXPECT_EQ(created, 100U);
  EXPECT_EQ(removed, 1U);

  // Cut short, or garbage: refused, and the store stays as it was.
  Store cut(strand, nullptr, null_log());
  ASSERT_TRUE(cut.load_begin().ok());
  for (size_t i = 0; i + 1 < chunks.size(); ++i) ASSERT_TRUE(cut.load_chunk(chunks[i]).ok());
  EXPECT_EQ(cut.load_end().code(), StatusCode::kDataLoss);
  ASSERT_TRUE(cut.load_begin().ok());
  EXPECT_EQ(cut.load_chunk("\xff").code(), StatusCode::kDataLoss);
  EXPECT_EQ(cut.snapshot().count<v1::Service>(), 0U);
}

TEST_F(StoreTest, WatchersSeeCommitsInOrderAndBeforeTheAnswer) {
  std::vector<std::string> order;
  auto subscription = store.watch([&](const CommitEvent& e) {
    order.push_back(fmt::format("event {} of {}", e.version, e.changes->size()));
    EXPECT_EQ(store.snapshot().version(), e.version);
    EXPECT_EQ(e.after.version(), e.version);
  });
  store.update([](Transaction& tx) { return tx.create(service("s1", "a")); },
               [&](const Commit&) { order.push_back("done"); });
  commit();
  EXPECT_THAT(order, ElementsAre("event 101 of 1", "done"));
  subscription = Store::Subscription();
  create_service("s2", "b");
  commit();
  EXPECT_EQ(order.size(), 2U) << "unsubscribed";
}

TEST_F(StoreTest, UpdatesFromInsideACommitsDeliveryShareAnEntry) {
  int events = 0;
  const auto react = [&](const CommitEvent&) {
    if (++events <= 2) create_service(fmt::format("r{}", events), fmt::format("r{}", events));
  };
  const auto one = store.watch(react);
  const auto two = store.watch(react);
  create_service("s1", "a");
  commit();
  ASSERT_EQ(proposer.entries.size(), 2U);
  EXPECT_EQ(entry(1).changes_size(), 2);
}

TEST_F(StoreTest, WatchResumesFromHistoryWithTheStatesOfThen) {
  for (int i = 1; i <= 5; ++i) {
    create_service(fmt::format("s{}", i), fmt::format("n{}", i));
    commit();
  }
  update([](Transaction& tx) { return tx.remove<v1::Service>("s3"); });
  commit();
  std::vector<std::pair<uint64_t, size_t>> seen;
  auto subscription = store.watch(102, [&](const CommitEvent& e) {
    seen.emplace_back(e.version, e.after.count<v1::Service>());
    EXPECT_EQ(e.after.version(), e.version);
  });
  ASSERT_TRUE(subscription.has_value());
  EXPECT_TRUE(seen.empty()) << "never from inside watch()";
  create_service("s9", "late");
  proposer.commit();  // a live commit before the history was delivered lines up behind it
  world.settle();
  using P = std::pair<uint64_t, size_t>;
  EXPECT_THAT(seen, ElementsAre(P{103, 3}, P{104, 4}, P{105, 5}, P{106, 4}, P{107, 5}));
}

TEST_F(StoreTest, WatchSaysWhenHistoryIsGone) {
  v1::StoreEntry entry;
  entry.set_feature_level(1);
  *entry.add_changes()->mutable_service() = service("s1", "a");
  const std::string bytes = entry.SerializeAsString();
  Store follower(strand, nullptr, null_log());
  for (uint64_t i = 1; i <= Store::kHistoryCommitsMax + 10; ++i) {
    ASSERT_TRUE(follower.apply(i, bytes).ok());
  }
  EXPECT_TRUE(follower.watch(10, [](const CommitEvent&) {}).has_value());
  const auto gone = follower.watch(9, [](const CommitEvent&) {});
  ASSERT_FALSE(gone.has_value());
  EXPECT_EQ(gone.error().code(), StatusCode::kOutOfRange);
}

TEST_F(StoreTest, HistoryIsFoundByTime) {
  const WallTime begin = world.wall_now();
  for (int i = 1; i <= 3; ++i) {
    create_service(fmt::format("s{}", i), fmt::format("n{}", i));
    commit();
    world.advance(1s);
  }
  const auto after = [&](Duration offset) { return store.history_since(begin + offset); };
  EXPECT_EQ(after(500ms).after_version, 101U) << "what was committed at 1 s and 2 s is wanted";
  EXPECT_TRUE(after(500ms).complete);
  EXPECT_EQ(after(1h).after_version, 103U);
  EXPECT_EQ(after(-1h).after_version, 0U);
  EXPECT_TRUE(after(-1h).complete) << "nothing was ever dropped";
  EXPECT_TRUE(store.watch(after(-1h).after_version, [](const CommitEvent&) {}).has_value());

  Store loaded(strand, nullptr, null_log());
  ASSERT_TRUE(loaded.load_begin().ok());
  ASSERT_TRUE(Store::save(store.snapshot(), 1 << 20, [&](std::string chunk) {
                return loaded.load_chunk(chunk);
              }).ok());
  ASSERT_TRUE(loaded.load_end().ok());
  EXPECT_EQ(loaded.history_since(begin).after_version, 103U) << "all it can tell";
  EXPECT_FALSE(loaded.history_since(begin).complete);
}

TEST_F(StoreTest, WatchOfAVersionStillToComeIsRefused) {
  const auto watching = store.watch(store.snapshot().version() + 1, [](const CommitEvent&) {});
  ASSERT_FALSE(watching.has_value());
  EXPECT_EQ(watching.error().code(), StatusCode::kOutOfRange);
}

TEST_F(StoreTest, SnapshotAboveTheFeatureLevelIsRefused) {
  v1::StoreSnapshotChunk chunk;
  chunk.set_format_version(1);
  chunk.set_index(5);
  chunk.set_last(true);
  v1::Cluster& cluster = *chunk.add_objects()->mutable_cluster();
  cluster.set_id("c");
  cluster.mutable_spec()->mutable_annotations()->set_name("default");
  cluster.set_feature_level(Store::kFeatureLevel + 1);
  Store follower(strand, nullptr, null_log());
  ASSERT_TRUE(follower.load_begin().ok());
  ASSERT_TRUE(follower.load_chunk(chunk.SerializeAsString()).ok());
  const Status loaded = follower.load_end();
  EXPECT_EQ(loaded.code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(loaded.reason(), "feature-level");
  EXPECT_THAT(loaded.message(), HasSubstr("upgrade muster"));
  EXPECT_EQ(follower.snapshot().version(), 0U);
}

}  // namespace
}  // namespace muster::manager::store
