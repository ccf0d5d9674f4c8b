#include "manager/ca/authority.h"

#include <gtest/gtest.h>

#include "tests/manager/ca/swarm_fixture.h"
#include "tests/manager/members/fake_group.h"

namespace muster::manager::ca {
namespace {

class Authority : public Swarm {
 protected:
  Authority() { authority_.start(); }

  Result<v1::IssueCertificateResponse> ask(const v1::IssueCertificateRequest& request,
                                           const security::Principal& caller = {}) {
    std::optional<Result<v1::IssueCertificateResponse>> answer;
    authority_.issue(caller, "10.0.0.9", request, [&](auto result) {
      EXPECT_FALSE(answer);
      answer.emplace(std::move(result));
    });
    EXPECT_FALSE(answer) << "never from inside the call";
    world_.settle();
    return answer ? *answer : Result<v1::IssueCertificateResponse>(fail(internal_error("none")));
  }

  members::FakeGroup group_{strand_};
  CertificateAuthority authority_{strand_, store_, group_, null_log()};
};

TEST_F(Authority, AJoinMakesOneNodeHoweverOftenItIsAsked) {
  const auto request = join_request(root_ca().join_tokens().worker());
  const auto first = ask(request);
  ASSERT_TRUE(first) << first.error().to_string();
  const uint64_t version = store_.snapshot().version();
  const auto again = ask(request);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->node_id(), first->node_id());
  EXPECT_EQ(again->role(), v1::NodeSpec::WORKER);
  EXPECT_EQ(store_.snapshot().count<v1::Node>(), 1u);
  EXPECT_EQ(store_.snapshot().version(), version);  // nothing to write
  EXPECT_EQ(store_.snapshot().get<v1::Node>(first->node_id())->status().address(), "10.0.0.9");
}

TEST_F(Authority, NothingIsLeftOfARefusedJoin) {
  auto request = join_request(*new_join_token(root_ca()));
  EXPECT_EQ(ask(request).error().reason(), "bad-join-token");
  EXPECT_EQ(store_.snapshot().count<v1::Node>(), 0u);
}

TEST_F(Authority, ACertificateIsGivenOutOnlyWhenTheNodeIsStored) {
  proposer_.rejections = 1;
  EXPECT_FALSE(ask(join_request(root_ca().join_tokens().worker())));
  EXPECT_EQ(store_.snapshot().count<v1::Node>(), 0u);
}

TEST_F(Authority, RotatedTokensAreWorthNothingAtOnce) {
  const std::string old = root_ca().join_tokens().worker();
  ASSERT_TRUE(change_cluster([](v1::Cluster& cluster) -> Status {
                MUSTER_ASSIGN(*cluster.mutable_root_ca()->mutable_join_tokens()->mutable_worker(),
                              new_join_token(cluster.root_ca()));
                return ok_status();
              }).ok());
  EXPECT_EQ(ask(join_request(old)).error().reason(), "bad-join-token");
  EXPECT_TRUE(ask(join_request(root_ca().join_tokens().worker())));
}

TEST_F(Authority, ARenewalHasTheRoleOfTheMoment) {
  add_node("n", "n");
  auto request = join_request("");
  EXPECT_EQ(ask(request, node_caller("n"))->role(), v1::NodeSpec::WORKER);
  ASSERT_TRUE(change_node("n", [](v1::Node& node) { node.set_role(v1::NodeSpec::MANAGER); }).ok());
  EXPECT_EQ(ask(request, node_caller("n"))->role(), v1::NodeSpec::MANAGER);
  EXPECT_EQ(ask(request, node_caller("gone")).error().reason(), "node-removed");
  EXPECT_EQ(ask(request).error().code(), StatusCode::kUnauthenticated);
}

TEST_F(Authority, WhoGetsACertificateHearsWhereTheManagersAre) {
  group_.state.members = {members::member(1, "a"), members::member(2, "b")};
  group_.state.members[1].leader = true;
  const auto joined = ask(join_request(root_ca().join_tokens().worker()));
  ASSERT_TRUE(joined);
  const auto renewed = ask(join_request(""), node_caller(joined->node_id()));
  ASSERT_TRUE(renewed);
  for (const auto& answer : {joined, renewed}) {
    ASSERT_EQ(answer->manager_addrs_size(), 2);
    EXPECT_EQ(answer->manager_addrs(0), "10.0.0.2:2377");
    EXPECT_EQ(answer->manager_addrs(1), "10.0.0.1:2377");
  }
}

TEST_F(Authority, OthersThanTheLeaderSignNothing) {
  add_node("n", "n");
  authority_.stop();
  EXPECT_EQ(ask(join_request(root_ca().join_tokens().worker())).error().reason(), "not-leader");
  EXPECT_EQ(ask(join_request(""), node_caller("n")).error().reason(), "not-leader");
  authority_.start();
  EXPECT_TRUE(ask(join_request(""), node_caller("n")));
}

// Deposed without knowing yet: the group tells it.
TEST(AuthorityOfTheDeposed, GivesOutNoRole) {
  class Deposed final : public raft::Group {
   public:
    explicit Deposed(Executor& strand) : strand_(strand) {}
    raft::GroupView view() const override { return {}; }
    void add_learner(raft::Member, Done) override {}
    void promote(raft::MemberId, Done) override {}
    void remove(raft::MemberId, Done) override {}
    void transfer_leadership(raft::MemberId, Done) override {}
    void read_barrier(UniqueFunction<void(Result<raft::Index>)> done) override {
      strand_.post([done = std::move(done)]() mutable {
        done(fail(StatusCode::kUnavailable, "somebody else leads", "not-leader"));
      });
    }

   private:
    Executor& strand_;
  };
  SimWorld world;
  SimExecutor strand(world);
  store::InstantProposer proposer(strand);
  store::Store store(strand, &proposer, null_log());
  Deposed group(strand);
  CertificateAuthority authority(strand, store, group, null_log());
  authority.start();
  Status outcome;
  authority.issue({}, "", {}, [&](auto result) { outcome = result.error(); });
  world.settle();
  EXPECT_EQ(outcome.reason(), "not-leader");
}

TEST_F(Authority, ARotationEndsWithTheLastNodesReport) {
  add_node("a", "a");
  add_node("b", "b");
  const v1::RootCa before = root_ca();
  ASSERT_TRUE(rotate().ok());
  world_.settle();
  EXPECT_TRUE(root_ca().has_rotation());
  // Who joins meanwhile has a certificate of the new root and holds nothing up; the token is as
  // before, since it pins the root that joiners are shown.
  EXPECT_EQ(root_certificate(store_.snapshot())->certificate_pem(), before.certificate_pem());
  const auto joined = ask(join_request(before.join_tokens().worker()));
  ASSERT_TRUE(joined) << joined.error().to_string();
  EXPECT_EQ(nodes_to_renew(store_.snapshot()), (std::vector<std::string>{"a", "b"}));

  report("a");
  EXPECT_TRUE(root_ca().has_rotation());
  report("b");
  world_.settle();
  const v1::RootCa after = root_ca();
  EXPECT_FALSE(after.has_rotation());
  EXPECT_NE(after.certificate_pem(), before.certificate_pem());
  EXPECT_EQ(root_certificate(store_.snapshot())->certificate_pem(), after.certificate_pem());
  EXPECT_NE(after.join_tokens().worker(), before.join_tokens().worker());
  EXPECT_EQ(ask(join_request(before.join_tokens().worker())).error().reason(), "bad-join-token");
  EXPECT_TRUE(ask(join_request(after.join_tokens().worker())));
}

TEST_F(Authority, ARotationEndsWhenTheNodeThatHeldItUpIsRemoved) {
  add_node("a", "a");
  ASSERT_TRUE(rotate().ok());
  world_.settle();
  ASSERT_TRUE(root_ca().has_rotation());
  ASSERT_TRUE(write([](store::Transaction& tx) { return tx.remove<v1::Node>("a"); }).ok());
  world_.settle();
  EXPECT_FALSE(root_ca().has_rotation());
}

TEST_F(Authority, ANewLeaderGoesOnWithARotation) {
  authority_.stop();
  ASSERT_TRUE(rotate().ok());  // nobody has to renew
  world_.settle();
  EXPECT_TRUE(root_ca().has_rotation());
  authority_.start();
  world_.settle();
  EXPECT_FALSE(root_ca().has_rotation());
}

TEST_F(Authority, TheEndOfARotationIsWrittenOnceThereIsRoom) {
  add_node("a", "a");
  ASSERT_TRUE(rotate().ok());
  authority_.stop();
  report("a");
  proposer_.rejections = 3;
  authority_.start();
  world_.settle();
  EXPECT_TRUE(root_ca().has_rotation());
  world_.advance(10s);
  EXPECT_FALSE(root_ca().has_rotation());
}

}  // namespace
}  // namespace muster::manager::ca
