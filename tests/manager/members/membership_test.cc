#include "manager/members/membership.h"

#include <gtest/gtest.h>

#include <map>

#include "base/sim_executor.h"
#include "manager/members/group_facts.h"
#include "manager/members/member_keeper.h"
#include "tests/manager/members/fake_group.h"
#include "tests/manager/store/instant_proposer.h"

namespace muster::manager::members {
namespace {

class FakeReachability final : public Reachability {
 public:
  explicit FakeReachability(Executor& strand) : strand_(strand) {}
  void check(const std::string& address, UniqueFunction<void(Status)> done) override {
    asked.push_back(address);
    strand_.after(takes, [done = std::move(done), status = answer]() mutable { done(status); });
  }
  Status answer;
  Duration takes{};
  std::vector<std::string> asked;

 private:
  Executor& strand_;
};

class MembershipTest : public testing::Test {
 protected:
  MembershipTest() {
    group_.state.self = group_.state.leader = {1};
    group_.state.leads = true;
    group_.state.members = {member(1, "n1")};
    store_.lead(1);
    write([](store::Transaction& tx) {
      v1::Cluster cluster;
      cluster.set_id("c");
      cluster.mutable_spec()->mutable_annotations()->set_name("default");
      return tx.create(std::move(cluster));
    });
    for (const char* id : {"n1", "n2", "n3"}) {
      write([id](store::Transaction& tx) {
        v1::Node node;
        node.set_id(id);
        node.mutable_spec()->set_desired_role(v1::NodeSpec::MANAGER);
        node.set_role(v1::NodeSpec::MANAGER);
        return tx.create(std::move(node));
      });
    }
  }
  void write(store::Store::Body body) {
    Status outcome(StatusCode::kUnknown, "never committed");
    store_.update(std::move(body), [&](const store::Commit& c) { outcome = c.status; });
    world_.settle();
    ASSERT_TRUE(outcome.ok()) << outcome.to_string();
  }
  void want(const std::string& id, v1::NodeSpec::Role role) {
    write([=](store::Transaction& tx) {
      v1::Node node = *tx.view().get<v1::Node>(id);
      node.mutable_spec()->set_desired_role(role);
      return tx.update(std::move(node));
    });
  }
  Result<v1::JoinMemberResponse> join(const std::string& node, uint64_t id,
                                      const std::string& address) {
    v1::JoinMemberRequest request;
    request.set_member_id(id);
    request.set_address(address);
    std::optional<Result<v1::JoinMemberResponse>> out;
    membership_.join(node, request, [&](auto result) { out.emplace(std::move(result)); });
    world_.advance(11s);
    return out ? *out : Result<v1::JoinMemberResponse>(fail(internal_error("no answer")));
  }
  Status leave(const std::string& node, uint64_t id) {
    v1::LeaveMemberRequest request;
    request.set_member_id(id);
    Status out = internal_error("no answer");
    membership_.leave(node, request,
                      [&](auto result) { out = result ? ok_status() : result.error(); });
    world_.advance(11s);
    return out;
  }
  store::Ptr<v1::Node> node(const std::string& id) { return store_.snapshot().get<v1::Node>(id); }

  SimWorld world_;
  SimExecutor strand_{world_};
  store::InstantProposer log_{strand_};
  store::Store store_{strand_, &log_, null_log()};
  FakeGroup group_{strand_};
  FakeReachability reachability_{strand_};
  Membership membership_{strand_, store_, group_, reachability_, null_log()};
};

TEST_F(MembershipTest, AJoinerIsDialledBackAndBecomesALearner) {
  const auto joined = join("n2", 2, "10.0.0.2:2377");
  ASSERT_TRUE(joined) << joined.error().to_string();
  EXPECT_EQ(reachability_.asked, std::vector<std::string>{"10.0.0.2:2377"});
  EXPECT_EQ(group_.log, std::vector<std::string>{"add n2 10.0.0.2:2377"});
  const raft::GroupView view = group_.view();
  ASSERT_EQ(view.members.size(), 2u);
  EXPECT_FALSE(view.find({2})->member.voter);
}

// B39: two joins, and a join again after the answer was lost.
TEST_F(MembershipTest, JoiningTwiceWithOneIdIsOneMember) {
  v1::JoinMemberRequest request;
  request.set_member_id(2);
  request.set_address("10.0.0.2:2377");
  int answers = 0;
  for (int i = 0; i < 2; ++i) {
    membership_.join("n2", request, [&](auto result) { answers += result ? 1 : 0; });
  }
  world_.settle();
  EXPECT_EQ(answers, 2);
  EXPECT_TRUE(join("n2", 2, "10.0.0.2:2377"));
  EXPECT_EQ(group_.state.members.size(), 2u);
}

TEST_F(MembershipTest, ANewAddressOfOneMemberIsCheckedAndTaken) {
  ASSERT_TRUE(join("n2", 2, "10.0.0.2:2377"));
  ASSERT_TRUE(join("n2", 2, "10.0.0.22:2377"));
  EXPECT_EQ(group_.state.members[1].member.address, "10.0.0.22:2377");
  EXPECT_EQ(reachability_.asked.size(), 2u);
}

TEST_F(MembershipTest, AnAddressThatNobodyCanReachIsRefused) {
  reachability_.answer = unavailable("connection refused");
  const auto joined = join("n2", 2, "10.0.0.2:2377");
  ASSERT_FALSE(joined);
  EXPECT_EQ(joined.error().code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(joined.error().reason(), "address-unreachable");
  EXPECT_EQ(joined.error().message(),
            "could not connect to prospective new cluster member using its advertised address "
            "10.0.0.2:2377: connection refused");
  EXPECT_TRUE(group_.log.empty());
}

TEST_F(MembershipTest, WhoMayNotJoin) {
  want("n3", v1::NodeSpec::WORKER);
  group_.state.members.push_back(member(2, "n2"));
  struct Case {
    const char* node;
    uint64_t id;
    const char* address;
    StatusCode code;
    const char* reason;
  };
  const Case cases[] = {
      {"n9", 9, "10.0.0.9:2377", StatusCode::kPermissionDenied, "node-removed"},
      {"n3", 3, "10.0.0.3:2377", StatusCode::kFailedPrecondition, "not-a-manager"},
      {"n1", 0, "10.0.0.1:2377", StatusCode::kInvalidArgument, ""},
      {"n2", 7, "10.0.0.7", StatusCode::kInvalidArgument, ""},
      {"n2", 7, "10.0.0.7:x", StatusCode::kInvalidArgument, ""},
      {"n2", 7, "10.0.0.7:70000", StatusCode::kInvalidArgument, ""},
      {"n2", 7, "0.0.0.0:2377", StatusCode::kInvalidArgument, ""},
      {"n1", 2, "10.0.0.7:2377", StatusCode::kAlreadyExists, ""},
      {"n2", 7, "10.0.0.1:2377", StatusCode::kAlreadyExists, "address-in-use"},
      // Two managers with one identity.
      {"n2", 7, "10.0.0.7:2377", StatusCode::kUnavailable, "identity-in-use"},
      {"n1", 7, "10.0.0.7:2377", StatusCode::kUnavailable, "identity-in-use"},
  };
  for (const Case& c : cases) {
    const auto joined = join(c.node, c.id, c.address);
    ASSERT_FALSE(joined) << c.node << c.address;
    EXPECT_EQ(joined.error().code(), c.code) << joined.error().to_string();
    EXPECT_EQ(joined.error().reason(), c.reason) << joined.error().to_string();
  }
  EXPECT_TRUE(group_.log.empty());
  group_.state.leads = false;
  group_.state.leader = {2};
  const auto joined = join("n2", 2, "10.0.0.2:2377");
  ASSERT_FALSE(joined);
  EXPECT_EQ(joined.error().reason(), "not-leader");
  EXPECT_NE(joined.error().message().find("10.0.0.2:2377"), std::string::npos);
}

TEST_F(MembershipTest, AManagerWithAnEmptyDiskTakesThePlaceOfItsEarlierSelf) {
  group_.state.members.push_back(member(2, "n2", true, false));
  group_.state.members.push_back(member(3, "n3"));
  const auto joined = join("n2", 7, "10.0.0.2:2377");
  ASSERT_TRUE(joined) << joined.error().to_string();
  EXPECT_EQ(group_.log, (std::vector<std::string>{"remove 2", "add n2 10.0.0.2:2377"}));
  // Not when that would cost the quorum.
  group_.state.members = {member(1, "n1"), member(2, "n2", true, false),
                          member(3, "n3", true, false), member(4, "n4")};
  const auto refused = join("n2", 8, "10.0.0.2:2377");
  ASSERT_TRUE(refused) << "two of three answer";
  group_.state.members = {member(1, "n1"), member(2, "n2", true, false),
                          member(3, "n3", true, false)};
  EXPECT_EQ(join("n2", 8, "10.0.0.2:2377").error().code(), StatusCode::kFailedPrecondition);
}

TEST_F(MembershipTest, AChangeUnderWayIsWaitedFor) {
  const Status pending(StatusCode::kFailedPrecondition, "busy", "change-pending");
  group_.failures = {pending, pending, pending};
  EXPECT_TRUE(join("n2", 2, "10.0.0.2:2377"));
  group_.failures.assign(1000, pending);
  EXPECT_EQ(join("n3", 3, "10.0.0.3:2377").error().reason(), "change-pending");
}

TEST_F(MembershipTest, NothingNewBeginsOnceTheTimeIsUp) {
  reachability_.takes = Membership::kLimit;
  const auto joined = join("n2", 2, "10.0.0.2:2377");
  ASSERT_FALSE(joined);
  EXPECT_EQ(joined.error().code(), StatusCode::kDeadlineExceeded) << joined.error().to_string();
  EXPECT_TRUE(group_.log.empty());
  world_.advance(11s);
  EXPECT_TRUE(group_.log.empty());
  reachability_.takes = Membership::kLimit - 1s;
  EXPECT_TRUE(join("n2", 2, "10.0.0.2:2377"));
}

TEST_F(MembershipTest, LeavingIsForOnesOwnAndKeepsTheQuorum) {
  EXPECT_EQ(leave("n1", 1).code(), StatusCode::kFailedPrecondition) << "the last one";
  group_.state.members.push_back(member(2, "n2"));
  group_.state.members.push_back(member(3, "n3"));
  EXPECT_EQ(leave("n3", 2).code(), StatusCode::kPermissionDenied);
  EXPECT_TRUE(leave("n2", 2).ok());
  EXPECT_EQ(group_.log, std::vector<std::string>{"remove 2"});
  EXPECT_EQ(node("n2")->spec().desired_role(), v1::NodeSpec::WORKER);
  EXPECT_TRUE(leave("n2", 2).ok()) << "again";
  EXPECT_EQ(join("n2", 2, "10.0.0.2:2377").error().reason(), "not-a-manager");
  group_.state.members[1].reachable = false;
  EXPECT_EQ(leave("n1", 1).code(), StatusCode::kFailedPrecondition);
  group_.state.members[1].reachable = true;
  EXPECT_EQ(leave("n1", 1).reason(), "not-leader") << "a leader hands over first";
  EXPECT_EQ(group_.log.back(), "transfer 0");
}

class MemberKeeperTest : public MembershipTest {
 protected:
  MemberKeeper keeper_{strand_, store_, group_, null_log()};
};

TEST_F(MemberKeeperTest, APromotedNodeGetsItsRoleJoinsAndVotes) {
  want("n3", v1::NodeSpec::WORKER);
  write([](store::Transaction& tx) {
    v1::Node node = *tx.view().get<v1::Node>("n2");
    node.set_role(v1::NodeSpec::WORKER);
    return tx.update(std::move(node));
  });
  keeper_.start();
  world_.advance(2s);
  EXPECT_EQ(node("n2")->role(), v1::NodeSpec::MANAGER);
  EXPECT_EQ(node("n3")->role(), v1::NodeSpec::WORKER) << "it never joined";
  EXPECT_EQ(node("n1")->manager_status().address(), "10.0.0.1:2377");
  ASSERT_TRUE(join("n2", 2, "10.0.0.2:2377"));
  world_.advance(2s);
  EXPECT_FALSE(group_.state.members[1].member.voter) << "it has not caught up";
  EXPECT_EQ(node("n2")->manager_status().raft_id(), "2");
  group_.state.members[1].caught_up = true;
  keeper_.group_changed();
  world_.settle();
  EXPECT_TRUE(group_.state.members[1].member.voter);
}

TEST_F(MemberKeeperTest, ADemotedNodeLeavesTheGroupAndThenLosesItsRole) {
  group_.state.members.push_back(member(2, "n2"));
  group_.state.members.push_back(member(3, "n3"));
  keeper_.start();
  world_.advance(2s);
  group_.failures = {Status(StatusCode::kFailedPrecondition, "busy", "change-pending")};
  want("n2", v1::NodeSpec::WORKER);
  EXPECT_EQ(node("n2")->role(), v1::NodeSpec::MANAGER);
  world_.advance(2s);
  EXPECT_EQ(group_.log, (std::vector<std::string>{"remove 2", "remove 2"})) << "tried again";
  EXPECT_EQ(node("n2")->role(), v1::NodeSpec::WORKER);
  EXPECT_FALSE(node("n2")->has_manager_status());
}

TEST_F(MemberKeeperTest, ALeaderThatIsDemotedHandsOverAndTheNextOneGoesOn) {
  group_.state.members.push_back(member(2, "n2"));
  group_.state.members.push_back(member(3, "n3"));
  keeper_.start();
  group_.transferred = [&] { keeper_.stop(); };
  want("n1", v1::NodeSpec::WORKER);
  world_.advance(2s);
  ASSERT_EQ(group_.log.size(), 1u);
  EXPECT_EQ(group_.log[0].rfind("transfer", 0), 0u);
  // The same state as its next leader sees it.
  group_.state.self = group_.state.leader;
  group_.state.leads = true;
  keeper_.start();
  world_.advance(2s);
  EXPECT_EQ(group_.log.back(), "remove 1");
  EXPECT_EQ(node("n1")->role(), v1::NodeSpec::WORKER);
}

TEST_F(MemberKeeperTest, WhatFailsIsTriedLessAndLessOften) {
  group_.state.members.push_back(member(2, "n2"));
  group_.state.members.push_back(member(3, "n3"));
  keeper_.start();
  group_.failures.assign(1000, Status(StatusCode::kDeadlineExceeded, "nobody took over"));
  want("n1", v1::NodeSpec::WORKER);
  world_.advance(60s);  // at 0, 1, 3, 7, 15, 31 s
  EXPECT_EQ(group_.log.size(), 6u);
  group_.failures.clear();
  world_.advance(31s);
  EXPECT_EQ(group_.log.size(), 7u);
}

TEST_F(MemberKeeperTest, NothingIsDoneOnceItHasStopped) {
  group_.state.members.push_back(member(2, "n2"));
  group_.state.members.push_back(member(3, "n3"));
  keeper_.start();
  world_.advance(2s);
  const uint64_t entries = log_.entries();
  keeper_.stop();
  want("n2", v1::NodeSpec::WORKER);
  world_.advance(5s);
  EXPECT_TRUE(group_.log.empty());
  EXPECT_EQ(log_.entries(), entries + 1) << "what the test wrote itself";
  EXPECT_TRUE(world_.idle());
  keeper_.start();
  world_.advance(1s);
  EXPECT_EQ(group_.log, std::vector<std::string>{"remove 2"});
}

}  // namespace
}  // namespace muster::manager::members
