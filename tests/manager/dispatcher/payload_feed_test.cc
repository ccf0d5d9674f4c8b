#include "manager/dispatcher/payload_feed.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/sim_executor.h"
#include "manager/dispatcher/parts.h"
#include "manager/store/store.h"
#include "tests/manager/store/instant_proposer.h"

namespace muster::manager::dispatcher {
namespace {

class PayloadFeedTest : public ::testing::Test {
 protected:
  PayloadFeedTest() { store_.lead(1); }

  void write(store::Store::Body body) {
    Status outcome(StatusCode::kUnknown, "never committed");
    store_.update(std::move(body), [&](const store::Commit& commit) { outcome = commit.status; });
    world_.settle();
    ASSERT_TRUE(outcome.ok()) << outcome.to_string();
  }
  void add_secret(const std::string& id, const std::string& data) {
    write([&](store::Transaction& tx) -> Status {
      v1::Blob blob;
      blob.set_id("blob-" + id);
      blob.set_data(data);
      MUSTER_TRY(tx.create(blob));
      v1::Secret secret;
      secret.set_id(id);
      secret.mutable_spec()->mutable_annotations()->set_name("name-" + id);
      secret.set_blob_id(blob.id());
      return tx.create(secret);
    });
  }
  void add_config(const std::string& id, const std::string& data) {
    write([&](store::Transaction& tx) -> Status {
      v1::Blob blob;
      blob.set_id("blob-" + id);
      blob.set_data(data);
      MUSTER_TRY(tx.create(blob));
      v1::Config config;
      config.set_id(id);
      config.mutable_spec()->mutable_annotations()->set_name("name-" + id);
      config.mutable_spec()->set_template_driver("golang");
      config.set_blob_id(blob.id());
      return tx.create(config);
    });
  }
  // A service with one task on n1.
  void add_task(const std::string& service, const std::vector<std::string>& secrets,
                const std::vector<std::string>& configs = {}) {
    write([&](store::Transaction& tx) -> Status {
      v1::Revision revision;
      revision.set_id(store::revision_id(service, 1));
      auto& container = *revision.mutable_spec()->mutable_container();
      for (const auto& id : secrets) container.add_secrets()->set_secret_id(id);
      for (const auto& id : configs) container.add_configs()->set_config_id(id);
      MUSTER_TRY(tx.create(revision));
      v1::Task task;
      task.set_id("t-" + service);
      task.set_service_id(service);
      task.set_revision(1);
      task.set_node_id("n1");
      task.set_desired_state(v1::TASK_RUNNING);
      task.mutable_status()->set_state(v1::TASK_ASSIGNED);
      return tx.create(task);
    });
  }
  void set(const std::string& service, v1::TaskState desired, v1::TaskState state) {
    write([&](store::Transaction& tx) {
      v1::Task task = *tx.view().get<v1::Task>("t-" + service);
      task.set_desired_state(desired);
      task.mutable_status()->set_state(state);
      return tx.update(task);
    });
  }
  // "+a" for what a step brings, "-a" for what it takes, in order; "none" for no step.
  std::string step() {
    feed_.refresh(store_.snapshot(), "n1");
    return next();
  }
  std::string next() {
    const auto step = feed_.next(store_.snapshot());
    if (!step) return "none";
    last_ = *step;
    std::string out = step->complete() ? "all" : "";
    for (const auto& secret : step->secrets()) out += " +" + secret.id();
    for (const auto& id : step->removed_secret_ids()) out += " -" + id;
    return out;
  }
  void acknowledge() { feed_.acknowledged(last_.version()); }

  SimWorld world_;
  SimExecutor strand_{world_};
  store::InstantProposer proposer_{strand_};
  store::Store store_{strand_, &proposer_, null_log()};
  PayloadFeed feed_;
  v1::FeedUpdate last_;
};

TEST_F(PayloadFeedTest, ANodeHasWhatItsTasksReferToAndNoMore) {
  add_secret("a", "A");
  add_secret("b", "B");
  add_config("c", "C");
  EXPECT_EQ(step(), "all") << "empty, so that the agent lets go of what it had";
  acknowledge();
  EXPECT_EQ(step(), "none");
  add_task("s1", {"a"}, {"c"});
  EXPECT_EQ(step(), " +a +c");
  EXPECT_FALSE(last_.secrets(0).config());
  EXPECT_EQ(last_.secrets(0).name(), "name-a");
  EXPECT_EQ(last_.secrets(0).data(), "A");
  EXPECT_TRUE(last_.secrets(1).config());
  EXPECT_EQ(last_.secrets(1).template_driver(), "golang");
  acknowledge();
  add_task("s2", {"a", "b"});
  EXPECT_EQ(step(), " +b");
  acknowledge();
  set("s1", v1::TASK_RUNNING, v1::TASK_FAILED);
  EXPECT_EQ(step(), " -c") << "the other task still has a";
  acknowledge();
  set("s2", v1::TASK_SHUTDOWN, v1::TASK_RUNNING);
  EXPECT_EQ(step(), " -a -b") << "no new container of it will start";
}

TEST_F(PayloadFeedTest, WhatEntitles) {
  struct Case {
    v1::TaskState desired, state;
    bool entitles;
  };
  const std::vector<Case> cases = {
      {v1::TASK_RUNNING, v1::TASK_PENDING, false},  {v1::TASK_READY, v1::TASK_ASSIGNED, true},
      {v1::TASK_RUNNING, v1::TASK_RUNNING, true},   {v1::TASK_COMPLETE, v1::TASK_RUNNING, true},
      {v1::TASK_RUNNING, v1::TASK_COMPLETE, false}, {v1::TASK_RUNNING, v1::TASK_REJECTED, false},
      {v1::TASK_SHUTDOWN, v1::TASK_RUNNING, false}, {v1::TASK_REMOVE, v1::TASK_ASSIGNED, false},
  };
  for (const Case& c : cases) {
    v1::Task task;
    task.set_node_id("n1");
    task.set_desired_state(c.desired);
    task.mutable_status()->set_state(c.state);
    EXPECT_EQ(entitles(task), c.entitles) << c.desired << " " << c.state;
  }
}

TEST_F(PayloadFeedTest, OneStepIsUnderWayAtATime) {
  add_task("s1", {"a", "b", "c", "d"});
  for (const char* id : {"a", "b", "c", "d"}) add_secret(id, std::string(500'000, 'x'));
  EXPECT_EQ(step(), "all +a +b +c") << "about a mebibyte";
  EXPECT_EQ(last_.version(), 1u);
  EXPECT_EQ(next(), "none");
  set("s1", v1::TASK_SHUTDOWN, v1::TASK_RUNNING);
  EXPECT_EQ(step(), "none") << "not before the answer";
  acknowledge();
  EXPECT_EQ(next(), " -a -b -c") << "d is not wanted any more";
  EXPECT_EQ(last_.base_version(), 1u);
  EXPECT_EQ(last_.version(), 2u);
}

TEST_F(PayloadFeedTest, TheRestComesWithTheAnswer) {
  add_task("s1", {"a", "b", "c", "d"});
  for (const char* id : {"a", "b", "c", "d"}) add_secret(id, std::string(500'000, 'x'));
  step();
  acknowledge();
  EXPECT_EQ(next(), " +d");
  acknowledge();
  EXPECT_EQ(next(), "none");
}

TEST_F(PayloadFeedTest, WhatIsNotThereIsLeftOutAndComesLater) {
  add_task("s1", {"a"});
  EXPECT_EQ(step(), "all");
  acknowledge();
  add_secret("a", "A");
  EXPECT_EQ(step(), " +a");
}

TEST(PayloadParts, APayloadIsCutIntoPiecesThatFit) {
  v1::FeedUpdate step;
  step.mutable_feed()->set_kind(v1::FeedId::SECRETS);
  std::string data;
  for (int i = 0; i < 1'023'999; ++i) data += static_cast<char>(i * 7 % 251);
  for (const char* id : {"small", "large", "last"}) {
    auto& secret = *step.add_secrets();
    secret.set_id(id);
    secret.set_name(std::string(64, 'n'));
    secret.set_data(std::string(id) == "large" ? data : "tiny");
  }
  std::string joined;
  std::vector<std::string> order;
  const auto parts = cut_into_parts(step);
  EXPECT_EQ(parts.size(), 5u);
  for (const Bytes& bytes : parts) {
    EXPECT_LE(bytes->size(), kMessageBytesMax + 1024);
    v1::ManagerMessage message;
    ASSERT_TRUE(message.ParseFromString(*bytes));
    for (const auto& piece : message.feed().secrets()) {
      if (order.empty() || order.back() != piece.id()) order.push_back(piece.id());
      if (piece.id() != "large") continue;
      joined += piece.data();
      EXPECT_EQ(piece.more(), joined.size() < data.size());
    }
  }
  EXPECT_EQ(joined, data);
  EXPECT_EQ(order, (std::vector<std::string>{"small", "large", "last"}));
}

}  // namespace
}  // namespace muster::manager::dispatcher
