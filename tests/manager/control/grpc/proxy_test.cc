// What a follower passes on, and streams that end early.
#include <unistd.h>

#include "tests/manager/control/grpc/proxy_fixture.h"

namespace muster::manager::control {
namespace {

TEST_F(ProxyTest, WhatAFollowerIsAskedToWriteTheLeaderWrites) {
  ASSERT_TRUE(create(follower_, network("front")).status.ok());
  EXPECT_NE(leader_.store.snapshot().find<v1::Network>("front"), nullptr);
  // Errors come as they are.
  const Answer again = create(follower_, network("front"));
  EXPECT_EQ(again.status.error_code(), grpc::StatusCode::ALREADY_EXISTS);
  EXPECT_NE(again.status.error_message().find("network with name front already exists"),
            std::string::npos);
  EXPECT_EQ(create(follower_, network("front", std::string(200, 'x'))).status.error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(ProxyTest, AnAnswerLeavesAFollowerWhenItsOwnStoreHasTheChange) {
  {
    std::lock_guard lock(mutex_);
    hold_back_ = true;
  }
  const int before = [&] {
    std::lock_guard lock(leader_.log.proposed.mutex);
    return leader_.log.proposed.count;
  }();
  auto answer = std::async(std::launch::async, [&] { return create(follower_, network("front")); });
  leader_.log.proposed.wait_for(before + 1);
  on(leader_.strand, [] {});
  // Well below AppliedWait::kLimit, well above two hops.
  EXPECT_EQ(answer.wait_for(300ms), std::future_status::timeout) << "the follower lacks it";
  {
    std::lock_guard lock(mutex_);
    hold_back_ = false;
    release();
  }
  ASSERT_TRUE(answer.get().status.ok());
  v1::GetNetworkRequest get;
  get.set_network("front");
  v1::GetNetworkResponse got;
  EXPECT_TRUE(call(follower_, &v1::Control::Stub::GetNetwork, get, &got).status.ok());
}

TEST_F(ProxyTest, ARequestMakesOneHopAndOnlyManagersPassOn) {
  const Answer from_user = create(follower_, network("front"), "user:0:0");
  EXPECT_EQ(from_user.status.error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_TRUE(create(leader_, network("front"), "user:0:0").status.ok());
  EXPECT_EQ(create(leader_, network("back"), "nobody").status.error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(create(leader_, network("back"), "node:w:worker:c").status.error_code(),
            grpc::StatusCode::PERMISSION_DENIED);
  view_.leader = {3};
  tell();
  const Answer no_further = create(leader_, network("back"), "user:0:0");
  EXPECT_EQ(no_further.status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(no_further.reason, "not-leader");
  // What a user may do on the spot alone is not for others to ask in his name.
  v1::LeaveSwarmResponse left;
  EXPECT_EQ(
      call(leader_, &v1::Control::Stub::LeaveSwarm, v1::LeaveSwarmRequest(), &left, "user:0:0")
          .status.error_code(),
      grpc::StatusCode::PERMISSION_DENIED);
}

TEST_F(ProxyTest, AWatcherMayGoAtAnyMoment) {
  for (int round = 0; round < 300; ++round) {
    grpc::ClientContext context;
    v1::WatchRequest request;
    request.set_until_present(round % 3 == 0);
    // The strand comes to it while the client goes, before, after, or long before.
    const int moment = round % 4;
    std::promise<void> gate;
    if (moment == 1 || moment == 2) {
      follower_.strand.post([open = gate.get_future().share()] { open.wait(); });
    }
    auto watch = follower_.stub->Watch(&context, request);
    if (moment == 3) watch->WaitForInitialMetadata();
    if (moment == 1) gate.set_value();
    context.TryCancel();
    v1::WatchResponse event;
    while (watch->Read(&event)) {
    }
    const auto code = watch->Finish().error_code();
    EXPECT_TRUE(code == grpc::StatusCode::CANCELLED || code == grpc::StatusCode::OK) << code;
    if (moment == 2) gate.set_value();
  }
  // It serves still.
  grpc::ClientContext context;
  auto watch = follower_.stub->Watch(&context, v1::WatchRequest());
  watch->WaitForInitialMetadata();
  ASSERT_TRUE(create(follower_, network("front")).status.ok());
  v1::WatchResponse event;
  ASSERT_TRUE(watch->Read(&event));
  EXPECT_EQ(event.events_size(), 1);
  context.TryCancel();
}

TEST_F(ProxyTest, ARequestWithAnIdIsRepeatedAtTheNextLeader) {
  leader_.log.hold = true;
  const int before = [&] {
    std::lock_guard lock(leader_.log.proposed.mutex);
    return leader_.log.proposed.count;
  }();
  auto with_id =
      std::async(std::launch::async, [&] { return create(follower_, network("front", "r1")); });
  leader_.log.proposed.wait_for(before + 1);
  auto without = std::async(std::launch::async, [&] { return create(follower_, network("back")); });
  // Nobody can tell when that one has arrived: the leader has one change in flight.
  on(leader_.strand, [] {});
  follower_.log.term = 2;
  on(follower_.strand, [&] { follower_.store.lead(2); });
  view_.leader = {1};
  view_.term = 2;
  tell();
  EXPECT_TRUE(with_id.get().status.ok());
  EXPECT_NE(follower_.store.snapshot().find<v1::Network>("front"), nullptr);
  const Answer lost = without.get();
  if (!lost.status.ok()) {  // it had left for the old leader
    EXPECT_EQ(lost.status.error_code(), grpc::StatusCode::UNKNOWN);
    EXPECT_EQ(lost.reason, "outcome-unknown");
  }
}

TEST_F(ProxyTest, ALeaderThatCannotBeReachedIsNamedAndNothingWasDone) {
  to_leader_ = grpc::CreateChannel("unix:/nonexistent", grpc::InsecureChannelCredentials());
  const Answer answer = create(follower_, network("front"));
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(answer.reason, "leader-unreachable");
  EXPECT_EQ(answer.status.error_message().rfind("the leader at 10.0.0.2:2377 cannot be reached", 0),
            0u)
      << answer.status.error_message();
}

TEST_F(ProxyTest, ALeaderThatHasComeBackIsFoundBeforeGrpcWouldLookForIt) {
  const std::string address = fmt::format("unix-abstract:muster-proxy-test-{}", getpid());
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 600'000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 600'000);
  to_leader_ = grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
  EXPECT_EQ(create(follower_, network("refused")).reason, "leader-unreachable");
  leader_.stop();
  leader_.serve(address);
  // A connection may take longer than one request waits.
  Answer answer;
  for (int attempt = 0; attempt < 20 && !answer.status.ok(); ++attempt) {
    answer = create(follower_, network("back"));
    if (answer.status.ok()) break;
  }
  EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
}

TEST_F(ProxyTest, LogsAreRelayedWithTheirEnd) {
  grpc::ClientContext context;
  auto logs = follower_.stub->ServiceLogs(&context, v1::ServiceLogsRequest());
  v1::ServiceLogsResponse message;
  std::string lines;
  while (logs->Read(&message)) lines += message.lines(0).line();
  EXPECT_EQ(lines, "abc");
  const grpc::Status end = logs->Finish();
  EXPECT_EQ(end.error_message(), "enough");
  const auto& trailers = context.GetServerTrailingMetadata();
  ASSERT_NE(trailers.find(kReasonKey), trailers.end());
  EXPECT_EQ(trailers.find(kReasonKey)->second, "that-was-all");
}

TEST_F(ProxyTest, ExaminationsAreTheLeadersAndRelayed) {
  for (Manager* manager : {&leader_, &follower_}) {
    grpc::ClientContext context;
    v1::ExamineNetworksRequest request;
    request.add_networks("blue");
    auto examination = manager->stub->ExamineNetworks(&context, request);
    v1::ExamineNetworksResponse message;
    ASSERT_TRUE(examination->Read(&message));
    EXPECT_EQ(message.findings(0).text(), "blue");
    EXPECT_FALSE(examination->Read(&message));
    EXPECT_TRUE(examination->Finish().ok());
  }
}

TEST_F(ProxyTest, AReaderOfRelayedLogsMayGoAtAnyMoment) {
  for (int round = 0; round < 200; ++round) {
    grpc::ClientContext context;
    auto logs = follower_.stub->ServiceLogs(&context, v1::ServiceLogsRequest());
    v1::ServiceLogsResponse message;
    for (int read = 0; read < round % 5; ++read) logs->Read(&message);
    context.TryCancel();
    while (logs->Read(&message)) {
    }
    const auto code = logs->Finish().error_code();
    EXPECT_TRUE(code == grpc::StatusCode::CANCELLED || code == grpc::StatusCode::ABORTED) << code;
  }
}

TEST_F(ProxyTest, ABackupComesInPiecesAndGoesBackIn) {
  grpc::ClientContext context;
  v1::BackupSwarmRequest request;
  request.set_passphrase("secret");
  auto backup = follower_.stub->BackupSwarm(&context, request);
  v1::BackupSwarmResponse piece;
  std::string all;
  while (backup->Read(&piece)) all += piece.chunk() + ";";
  EXPECT_TRUE(backup->Finish().ok());
  EXPECT_EQ(all, "piece 1;piece 2;piece 3;");

  const auto restore = [&](const std::vector<std::string>& chunks, v1::RestoreSwarmResponse* out) {
    grpc::ClientContext restoring;
    auto writer = follower_.stub->RestoreSwarm(&restoring, out);
    for (const std::string& chunk : chunks) {
      v1::RestoreSwarmRequest message;
      message.set_chunk(chunk);
      if (!writer->Write(message)) break;
    }
    writer->WritesDone();
    return writer->Finish();
  };
  v1::RestoreSwarmResponse restored;
  EXPECT_TRUE(restore({"a", "b", "c"}, &restored).ok());
  EXPECT_EQ(restored.node_id(), "abc");
  EXPECT_EQ(restore({"a", "bad", "c"}, &restored).error_code(), grpc::StatusCode::DATA_LOSS);
}

}  // namespace
}  // namespace muster::manager::control
