// Reads: whose word they are, and what becomes of those that wait.
#include "tests/manager/control/grpc/proxy_fixture.h"

namespace muster::manager::control {
namespace {

TEST_F(ProxyTest, WithoutALeaderEverythingSaysSoAndCounts) {
  view_.leader = {0};
  tell();
  const std::string expected =
      "The swarm does not have a leader. It's possible that too few managers are online. Make sure "
      "more than half of the managers are online. From this manager 2 of 3 managers can be "
      "reached, itself included; 1 is missing. A manager that is locked counts as missing until "
      "\"muster swarm unlock\" is run on it.";
  const Answer write = create(follower_, network("front"));
  EXPECT_EQ(write.status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(write.status.error_message(), expected);
  EXPECT_EQ(write.reason, "no-leader");
  v1::ListServicesResponse services;
  const Answer read =
      call(follower_, &v1::Control::Stub::ListServices, v1::ListServicesRequest(), &services);
  EXPECT_EQ(read.status.error_message(), expected);
  v1::ListNodesResponse nodes;
  EXPECT_EQ(call(follower_, &v1::Control::Stub::ListNodes, v1::ListNodesRequest(), &nodes).reason,
            "no-leader");
  grpc::ClientContext context;
  v1::ServiceLogsResponse message;
  auto logs = follower_.stub->ServiceLogs(&context, v1::ServiceLogsRequest());
  EXPECT_FALSE(logs->Read(&message));
  EXPECT_EQ(logs->Finish().error_message(), expected);
  grpc::ClientContext asking;
  v1::ExamineNetworksResponse finding;
  auto examination = follower_.stub->ExamineNetworks(&asking, v1::ExamineNetworksRequest());
  EXPECT_FALSE(examination->Read(&finding));
  EXPECT_EQ(examination->Finish().error_message(), expected);
}

TEST_F(ProxyTest, AReadThatHasToBeExactIsTheLeadersAfterAMajorityHasConfirmedIt) {
  const auto list = [&](Manager& manager, bool exact, size_t* count = nullptr) {
    grpc::ClientContext context;
    if (exact) context.AddMetadata(kLinearizableKey, "1");
    v1::ListNetworksResponse networks;
    const auto status = manager.stub->ListNetworks(&context, v1::ListNetworksRequest(), &networks);
    if (count != nullptr) *count = static_cast<size_t>(networks.networks_size());
    return status;
  };
  EXPECT_TRUE(list(follower_, false).ok());
  EXPECT_EQ(leader_.group.barriers, 0);
  EXPECT_TRUE(list(leader_, true).ok());
  EXPECT_EQ(leader_.group.barriers, 1);
  // What the leader has written and the follower has not is in a follower's exact answer.
  {
    std::lock_guard lock(mutex_);
    hold_back_ = true;
  }
  ASSERT_TRUE(create(leader_, network("front")).status.ok());
  auto exact = std::async(std::launch::async, [&] {
    size_t networks = 0;
    EXPECT_TRUE(list(follower_, true, &networks).ok());
    return networks;
  });
  size_t own = 9;
  EXPECT_TRUE(list(follower_, false, &own).ok());
  EXPECT_EQ(own, 0u);
  {
    std::lock_guard lock(mutex_);
    hold_back_ = false;
    release();
  }
  EXPECT_EQ(exact.get(), 1u);
  EXPECT_EQ(leader_.group.barriers, 2);
  EXPECT_EQ(follower_.group.barriers, 0) << "a follower knows no majority";
  // Nodes too, where nothing takes the place of the leader's word.
  const auto nodes = [&] {
    grpc::ClientContext context;
    context.AddMetadata(kLinearizableKey, "1");
    v1::ListNodesResponse response;
    return follower_.stub->ListNodes(&context, v1::ListNodesRequest(), &response);
  };
  EXPECT_TRUE(nodes().ok());
  EXPECT_EQ(leader_.group.barriers, 3);
  // A leader that nobody confirms is asked again, and never believed.
  on(leader_.strand, [&] {
    leader_.group.barrier = fail(Status(StatusCode::kUnavailable, "no majority", "not-leader"));
  });
  EXPECT_TRUE(list(follower_, false).ok());
  EXPECT_EQ(list(follower_, true).error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(list(leader_, true).error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(nodes().error_code(), grpc::StatusCode::UNAVAILABLE);
  view_.leader = {0};
  tell();
  EXPECT_NE(list(follower_, true).error_message().find("does not have a leader"),
            std::string::npos);
}

TEST_F(ProxyTest, ARefusalIsTheLeadersAfterAMajorityHasConfirmedIt) {
  ASSERT_TRUE(create(leader_, network("front")).status.ok());
  EXPECT_EQ(leader_.group.barriers, 0) << "what is written has a majority already";
  EXPECT_EQ(create(leader_, network("front")).status.error_code(),
            grpc::StatusCode::ALREADY_EXISTS);
  EXPECT_EQ(leader_.group.barriers, 1);
  // So is a change that was made before.
  ASSERT_TRUE(create(leader_, network("side", "one")).status.ok());
  EXPECT_EQ(leader_.group.barriers, 1);
  EXPECT_TRUE(create(leader_, network("side", "one")).status.ok());
  EXPECT_EQ(leader_.group.barriers, 2);
  // Another manager has removed the networks, and this one does not know yet that it leads no more:
  // it does not say that they are there.
  on(leader_.strand, [&] {
    leader_.group.barrier = fail(Status(StatusCode::kUnavailable, "no majority", "not-leader"));
  });
  EXPECT_EQ(create(leader_, network("front")).status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(create(leader_, network("side", "one")).status.error_code(),
            grpc::StatusCode::UNAVAILABLE);
  EXPECT_TRUE(create(leader_, network("back")).status.ok());
}

TEST_F(ProxyTest, AReadFollowsAChangeOfLeaders) {
  // The answer of the one that was asked never comes; the next leader is this manager.
  leader_.group.hold_barriers = true;
  auto read = std::async(std::launch::async, [&] {
    grpc::ClientContext context;
    context.AddMetadata(kLinearizableKey, "1");
    v1::ListNetworksResponse networks;
    return follower_.stub->ListNetworks(&context, v1::ListNetworksRequest(), &networks);
  });
  leader_.group.wait_for_barriers(1);
  view_.leader = {1};
  view_.term = 2;
  tell();
  EXPECT_TRUE(read.get().ok());
  EXPECT_EQ(follower_.group.barriers, 1);
  leader_.group.drop_barriers();
}

TEST_F(ProxyTest, WhoeverWaitsIsLetGoWithItsCallAndCountedForOnce) {
  view_.leader = {0};
  tell();
  // One count for all that wait.
  std::vector<std::future<std::string>> waiting;
  for (int i = 0; i < 24; ++i) {
    waiting.push_back(std::async(std::launch::async, [&, i] {
      if (i % 3 == 0) return create(follower_, network("front")).reason;
      v1::ListServicesResponse services;
      v1::ListNodesResponse nodes;
      return i % 3 == 1
                 ? call(follower_, &v1::Control::Stub::ListServices, v1::ListServicesRequest(),
                        &services)
                       .reason
                 : call(follower_, &v1::Control::Stub::ListNodes, v1::ListNodesRequest(), &nodes)
                       .reason;
    }));
  }
  for (auto& answer : waiting) EXPECT_EQ(answer.get(), "no-leader");
  // Each by itself would make it 48; a slow machine may see the first count grow old.
  EXPECT_LE(follower_.reachability.checks, 8);
}

TEST_F(ProxyTest, AReadThatItsClientGaveUpWaitsNoLonger) {
  view_.leader = {0};
  tell();
  // With nothing else to end it, only the client does.
  follower_.stop();
  Manager patient("n1", user(), nullptr, 1h);
  patient.group.tell(follower_.group.view());
  {
    std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
    std::vector<std::future<grpc::Status>> reads;
    for (int i = 0; i < 8; ++i) {
      contexts.push_back(std::make_unique<grpc::ClientContext>());
      reads.push_back(std::async(std::launch::async, [&patient, context = contexts.back().get()] {
        v1::ListServicesResponse services;
        return patient.stub->ListServices(context, v1::ListServicesRequest(), &services);
      }));
    }
    for (auto& context : contexts) context->TryCancel();
    for (auto& read : reads) EXPECT_EQ(read.get().error_code(), grpc::StatusCode::CANCELLED);
  }
  // The server stops at once: it has nothing under way.
  const auto before = std::chrono::steady_clock::now();
  patient.server->Shutdown(std::chrono::system_clock::now() + std::chrono::minutes(5));
  EXPECT_LT(std::chrono::steady_clock::now() - before, std::chrono::minutes(1));
  patient.stop();
  patient.strand.stop();
}

TEST_F(ProxyTest, NodesAreShownAsTheLeaderSeesThem) {
  v1::ListNodesResponse nodes;
  ASSERT_TRUE(
      call(follower_, &v1::Control::Stub::ListNodes, v1::ListNodesRequest(), &nodes).status.ok());
  ASSERT_EQ(nodes.nodes_size(), 3);
  EXPECT_EQ(nodes.self_id(), "n1") << "who was asked, not who knew";
  EXPECT_TRUE(nodes.nodes(1).manager_status().leader());
  EXPECT_FALSE(nodes.nodes(2).manager_status().reachable());
  v1::GetNodeRequest self;
  self.set_node("self");
  v1::GetNodeResponse node;
  ASSERT_TRUE(call(follower_, &v1::Control::Stub::GetNode, self, &node).status.ok());
  EXPECT_EQ(node.node().id(), "n1");
  self.set_node("nobody");
  EXPECT_EQ(call(follower_, &v1::Control::Stub::GetNode, self, &node).status.error_code(),
            grpc::StatusCode::NOT_FOUND);
  // A leader that cannot be asked: what this one knows.
  to_leader_ = grpc::CreateChannel("unix:/nonexistent", grpc::InsecureChannelCredentials());
  ASSERT_TRUE(
      call(follower_, &v1::Control::Stub::ListNodes, v1::ListNodesRequest(), &nodes).status.ok());
  EXPECT_EQ(nodes.nodes_size(), 3);
}

TEST_F(ProxyTest, LogsWaitForALeaderAsEverythingDoes) {
  follower_.stop();
  // Long enough for the test to be over before.
  Manager patient(
      "n1", user(), [this](const std::string&) { return to_leader_; }, 1h);
  raft::GroupView view = follower_.group.view();
  view.leader = {0};
  patient.group.tell(view);
  grpc::ClientContext context;
  auto logs = patient.stub->ServiceLogs(&context, v1::ServiceLogsRequest());
  // Whether the call has come to wait by now or not: the answer is the leader's.
  view.leader = {2};
  patient.group.tell(view);
  v1::ServiceLogsResponse message;
  std::string lines;
  while (logs->Read(&message)) lines += message.lines(0).line();
  EXPECT_EQ(lines, "abc");
  EXPECT_EQ(logs->Finish().error_message(), "enough");
  patient.stop();
  patient.strand.stop();
}

}  // namespace
}  // namespace muster::manager::control
