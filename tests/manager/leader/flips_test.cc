// Leadership that comes and goes at random, with the real parts: nothing of a term outlives it, and
// every part goes on from the state alone.
#include <gtest/gtest.h>

#include "base/sim_executor.h"
#include "manager/allocator/allocator.h"
#include "manager/dispatcher/dispatcher.h"
#include "manager/drainer/drainer.h"
#include "manager/leader/leader_parts.h"
#include "manager/members/member_keeper.h"
#include "manager/orchestrator/orchestrator.h"
#include "manager/orchestrator/scheduling_loop.h"
#include "manager/store/store.h"
#include "tests/manager/members/fake_group.h"

namespace muster::manager::leader {
namespace {

// A log that commits, loses or leaves open what is proposed; remembers in which term.
class FlippingLog final : public store::Proposer {
 public:
  FlippingLog(Executor& strand, Rng& rng) : strand_(strand), rng_(rng) {}
  void propose(uint64_t proposed_in, std::string entry,
               UniqueFunction<void(store::ProposalResult)> done) override {
    ++proposals;
    if (proposed_in != term || term == 0) ++stray;
    const Duration delay = Duration(1us) * static_cast<int64_t>(rng_.below(5'000));
    strand_.after(delay,
                  [this, proposed_in, entry = std::move(entry), done = std::move(done)]() mutable {
                    if (proposed_in != term) {
                      // Somebody else leads: it may have been committed all the same.
                      if (rng_.below(2) == 0)
                        return done({store::ProposalOutcome::kRejected, 0, {}});
                      done({store::ProposalOutcome::kUnknown, 0, {}});
                      if (rng_.below(2) == 0) late.push_back(std::move(entry));
                      return;
                    }
                    done({store::ProposalOutcome::kCommitted, ++index, {}});
                  });
  }
  uint64_t leading_term() const override { return term; }

  uint64_t term = 0;
  uint64_t index = 0;
  uint64_t proposals = 0;
  uint64_t stray = 0;  // outside of their term
  std::vector<std::string> late;

 private:
  Executor& strand_;
  Rng& rng_;
};

class Unreachable final : public dispatcher::HostProbe {
 public:
  explicit Unreachable(Executor& strand) : strand_(strand) {}
  void probe(const std::string&, std::function<void(dispatcher::ProbeResult)> done) override {
    strand_.after(2s, [done = std::move(done)] { done(dispatcher::ProbeResult::kUnreachable); });
  }

 private:
  Executor& strand_;
};

class NoAgent final : public dispatcher::AgentConnection {
 public:
  void send(std::shared_ptr<const std::string> bytes) override {
    ASSERT_TRUE(v1::ManagerMessage().ParseFromString(*bytes));
  }
  void send_first(std::shared_ptr<const std::string>) override {}
  size_t queued_bytes() const override { return 0; }
  void close() override { closed = true; }
  bool closed = false;
};

class FlipsTest : public testing::TestWithParam<uint64_t> {
 protected:
  FlipsTest() {
    group_.state.self = {1};
    group_.state.members = {members::member(1, "n0"), members::member(2, "n1"),
                            members::member(3, "n2")};
    parts_.add("allocator",
               make_part([this] { allocator_.start(); }, [this] { allocator_.stop(); }));
    parts_.add("scheduler", make_part([this] { scheduling_.start(store_.snapshot()); },
                                      [this] { scheduling_.stop(); }));
    parts_.add("orchestrator", make_part([this] { orchestrator_.start(store_.snapshot()); },
                                         [this] { orchestrator_.stop(); }));
    parts_.add("members", make_part([this] { keeper_.start(); }, [this] { keeper_.stop(); }));
    parts_.add("dispatcher", make_part([this] { dispatcher_.start_leading(); },
                                       [this] { dispatcher_.stop_leading(); }));
    parts_.add("drainer", make_part([this] { drainer_.start(); }, [this] { drainer_.stop(); }));
  }

  void begin() {
    for (const std::string& entry : log_.late) {
      ASSERT_TRUE(store_.apply(++log_.index, entry).ok());
    }
    log_.late.clear();
    log_.term = ++last_term_;
    group_.state.leader = group_.state.self;
    group_.state.leads = true;
    parts_.lead(log_.term);
  }
  void end() {
    log_.term = 0;
    group_.state.leader = {2};
    group_.state.leads = false;
    parts_.end_leading();
  }
  void write(store::Store::Body body) {
    store_.update(std::move(body), [](const store::Commit&) {});
  }
  void set_up() {
    write([](store::Transaction& tx) -> Status {
      if (tx.view().cluster() != nullptr) return ok_status();
      v1::Cluster cluster;
      cluster.set_id("c");
      cluster.mutable_spec()->mutable_annotations()->set_name("default");
      cluster.mutable_spec()->set_task_history_limit(2);
      MUSTER_TRY(tx.create(std::move(cluster)));
      for (int i = 0; i < 4; ++i) {
        v1::Node node;
        node.set_id(fmt::format("n{}", i));
        if (i < 2) node.mutable_spec()->set_desired_role(v1::NodeSpec::MANAGER);
        node.set_role(i < 3 ? v1::NodeSpec::MANAGER : v1::NodeSpec::WORKER);
        MUSTER_TRY(tx.create(std::move(node)));
      }
      v1::Service service;
      service.set_id("s");
      service.mutable_spec()->mutable_annotations()->set_name("web");
      service.mutable_spec()->mutable_replicated()->set_replicas(1);
      service.set_revision(1);
      MUSTER_TRY(tx.create(std::move(service)));
      v1::Revision revision;
      revision.set_id(store::revision_id("s", 1));
      revision.set_service_id("s");
      revision.set_number(1);
      return tx.create(std::move(revision));
    });
  }
  void scale(uint64_t replicas) {
    write([replicas](store::Transaction& tx) -> Status {
      const auto known = tx.view().get<v1::Service>("s");
      if (known == nullptr) return ok_status();
      v1::Service service = *known;
      service.mutable_spec()->mutable_replicated()->set_replicas(replicas);
      return tx.update(std::move(service));
    });
  }
  void connect_agents() {
    for (int i = 0; i < 4; ++i) {
      auto connection = std::make_shared<NoAgent>();
      auto session = dispatcher_.connect(fmt::format("n{}", i), "ipv4:192.0.2.7:1", connection);
      v1::AgentMessage message;
      message.mutable_hello()->set_feature_level(1);
      session->received(message);
      agents_.push_back({std::move(connection), std::move(session)});
    }
  }
  void beat() {
    v1::AgentMessage message;
    message.mutable_heartbeat()->set_sequence(1);
    for (auto& agent : agents_) agent.session->received(message);
  }
  uint64_t placed() const {
    uint64_t count = 0;
    store_.snapshot().each<v1::Task>([&](const auto& task) {
      if (task->desired_state() <= v1::TASK_RUNNING && !task->node_id().empty()) ++count;
      return true;
    });
    return count;
  }

  struct Agent {
    std::shared_ptr<NoAgent> connection;
    std::shared_ptr<dispatcher::Dispatcher::Session> session;
  };
  SeededRng rng_{GetParam()};
  SimWorld world_;
  SimExecutor strand_{world_};
  SimExecutor worker_{world_};
  FlippingLog log_{strand_, rng_};
  store::Store store_{strand_, &log_, null_log()};
  members::FakeGroup group_{strand_};
  Unreachable probe_{strand_};
  allocator::Allocator allocator_{strand_, store_, world_, null_log()};
  orchestrator::SchedulingLoop scheduling_{strand_, worker_, store_, null_log()};
  orchestrator::Orchestrator orchestrator_{strand_, store_, rng_, null_log()};
  members::MemberKeeper keeper_{strand_, store_, group_, null_log()};
  dispatcher::Dispatcher dispatcher_{
      {strand_, store_, rng_, probe_, null_log(), [this] { return group_.state; }}, {"n0", {}}};
  drainer::Drainer drainer_{strand_, store_, dispatcher_, null_log()};
  LeaderParts parts_{store_, null_log()};
  std::vector<Agent> agents_;
  uint64_t last_term_ = 0;
};

TEST_P(FlipsTest, NothingOutlivesItsTermAndEveryPartGoesOn) {
  for (int flip = 0; flip < 120; ++flip) {
    begin();
    set_up();
    if (rng_.below(2) == 0) connect_agents();
    for (uint64_t step = rng_.below(6); step > 0; --step) {
      if (rng_.below(3) == 0) scale(1 + rng_.below(6));
      world_.advance(Duration(1us) *
                     static_cast<int64_t>(rng_.below(rng_.below(20) == 0 ? 20'000'000 : 20'000)));
      beat();
    }
    // At any moment, with a change in flight or without.
    end();
    EXPECT_EQ(dispatcher_.session_count(), 0u);
    for (const Agent& agent : agents_) ASSERT_TRUE(agent.connection->closed);
    agents_.clear();
    const uint64_t proposals = log_.proposals;
    const size_t changes = group_.log.size();
    world_.advance(2100ms);  // what the log and a probe still have to say
    ASSERT_EQ(log_.proposals, proposals) << "flip " << flip << ": something still proposes";
    ASSERT_EQ(group_.log.size(), changes) << "flip " << flip << ": something changes the group";
    ASSERT_TRUE(world_.idle()) << "flip " << flip << ": a timer is left";
    if (rng_.below(3) == 0) world_.advance(100s);
  }
  ASSERT_EQ(log_.stray, 0u);
  begin();
  set_up();
  world_.advance(1s);
  scale(5);
  connect_agents();
  for (int second = 0; second < 30; ++second) {
    world_.advance(1s);
    beat();
  }
  EXPECT_EQ(placed(), 5u);
  EXPECT_EQ(store_.snapshot().get<v1::Node>("n2")->role(), v1::NodeSpec::WORKER);
  EXPECT_EQ(group_.state.members.size(), 2u) << "n2 has left the group";
  EXPECT_EQ(store_.snapshot().get<v1::Node>("n3")->status().state(), v1::NodeStatus::READY);
}

INSTANTIATE_TEST_SUITE_P(Seeds, FlipsTest, testing::Range<uint64_t>(1, 6));

}  // namespace
}  // namespace muster::manager::leader
