// A leader and a manager that follows it, over gRPC inside this process.
#include <grpcpp/channel.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <future>
#include <map>
#include <mutex>

#include "base/thread_executor.h"
#include "manager/control/forwarding.h"
#include "manager/control/grpc/answers.h"
#include "manager/control/grpc/control_service.h"
#include "muster/v1/control.grpc.pb.h"
#include "tests/manager/control/no_node.h"
#include "tests/manager/members/fake_group.h"

namespace muster::manager::control {
namespace {

template <class F>
auto on(ThreadExecutor& strand, F f) {
  std::promise<decltype(f())> done;
  strand.post([&] {
    if constexpr (std::is_void_v<decltype(f())>) {
      f();
      done.set_value();
    } else {
      done.set_value(f());
    }
  });
  return done.get_future().get();
}

// What a manager knows of the group, as the test says; it changes nothing.
class ToldGroup final : public raft::Group {
 public:
  raft::GroupView view() const override {
    std::lock_guard lock(mutex_);
    return view_;
  }
  void tell(raft::GroupView view) {
    std::lock_guard lock(mutex_);
    view_ = std::move(view);
  }
  void add_learner(raft::Member, Done done) override { refuse(std::move(done)); }
  void promote(raft::MemberId, Done done) override { refuse(std::move(done)); }
  void remove(raft::MemberId, Done done) override { refuse(std::move(done)); }
  void transfer_leadership(raft::MemberId, Done done) override { refuse(std::move(done)); }
  void read_barrier(UniqueFunction<void(Result<raft::Index>)> done) override {
    std::unique_lock lock(mutex_);
    if (hold_barriers) {
      held_.push_back(std::move(done));
    }
    ++barriers;
    changed_.notify_all();
    lock.unlock();
    if (!hold_barriers) done(barrier);
  }
  void wait_for_barriers(int n) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return barriers >= n; });
  }
  void drop_barriers() {
    std::lock_guard lock(mutex_);
    held_.clear();
  }

  Result<raft::Index> barrier = raft::Index{1};
  std::atomic<int> barriers = 0;
  std::atomic<bool> hold_barriers = false;

 private:
  static void refuse(Done done) { done(internal_error("not here")); }
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<UniqueFunction<void(Result<raft::Index>)>> held_;
  raft::GroupView view_;
};

// Commits at once, or holds what is proposed; hands what is committed to others.
class TestLog final : public store::Proposer {
 public:
  explicit TestLog(Executor& strand) : strand_(strand) {}
  void propose(uint64_t term, std::string entry,
               UniqueFunction<void(store::ProposalResult)> done) override {
    proposed.count_down();
    if (hold) return;
    const uint64_t index = ++*index_;
    strand_.post([this, term, index, entry = std::move(entry), done = std::move(done)]() mutable {
      done({term == this->term ? store::ProposalOutcome::kCommitted
                               : store::ProposalOutcome::kRejected,
            index,
            {}});
      if (committed) committed(index, entry);
    });
  }
  uint64_t leading_term() const override { return term; }
  void share(const std::shared_ptr<uint64_t>& index) { index_ = index; }

  struct Gate {
    std::mutex mutex;
    std::condition_variable changed;
    int count = 0;
    void count_down() {
      std::lock_guard lock(mutex);
      ++count;
      changed.notify_all();
    }
    void wait_for(int n) {
      std::unique_lock lock(mutex);
      changed.wait(lock, [&] { return count >= n; });
    }
  } proposed;
  std::atomic<bool> hold = false;
  std::function<void(uint64_t, const std::string&)> committed;
  uint64_t term = 1;

 private:
  Executor& strand_;
  std::shared_ptr<uint64_t> index_ = std::make_shared<uint64_t>(0);
};

class Backup final : public BackupStream {
 public:
  explicit Backup(Executor& strand) : strand_(strand) {}
  void next(Callback<std::string> done) override {
    strand_.post([this, done = std::move(done)]() mutable {
      done(++piece_ > 3 ? std::string() : std::string("piece ") + std::to_string(piece_));
    });
  }

 private:
  Executor& strand_;
  int piece_ = 0;
};

class Restore final : public RestoreStream {
 public:
  explicit Restore(Executor& strand) : strand_(strand) {}
  void write(v1::RestoreSwarmRequest message, UniqueFunction<void(Status)> done) override {
    strand_.post([this, message = std::move(message), done = std::move(done)]() mutable {
      got_ += message.chunk();
      done(message.chunk() == "bad" ? data_loss("the backup is damaged") : ok_status());
    });
  }
  void finish(Callback<v1::RestoreSwarmResponse> done) override {
    strand_.post([this, done = std::move(done)]() mutable {
      v1::RestoreSwarmResponse response;
      response.set_node_id(got_);
      done(std::move(response));
    });
  }

 private:
  Executor& strand_;
  std::string got_;
};

class TestNode final : public NodeControl {
 public:
  TestNode(std::string id, Executor& strand) : id_(std::move(id)), strand_(strand) {}
  void init_swarm(const v1::InitSwarmRequest&, Callback<v1::InitSwarmResponse> done) override {
    done(v1::InitSwarmResponse());
  }
  void leave_swarm(const v1::LeaveSwarmRequest&, Callback<v1::LeaveSwarmResponse> done) override {
    done(v1::LeaveSwarmResponse());
  }
  void get_info(Callback<v1::GetInfoResponse> done) override { done(v1::GetInfoResponse()); }
  void backup_swarm(const v1::BackupSwarmRequest&,
                    Callback<std::unique_ptr<BackupStream>> done) override {
    done(std::make_unique<Backup>(strand_));
  }
  void restore_swarm(Callback<std::unique_ptr<RestoreStream>> done) override {
    done(std::make_unique<Restore>(strand_));
  }
  std::string node_id() const override { return id_; }
  Result<std::string> new_join_token(const v1::Cluster&) override { return std::string("token"); }

 private:
  std::string id_;
  Executor& strand_;
};

// Three lines, then an end with a reason.
class ThreeLines final : public grpc::ServerWriteReactor<v1::ServiceLogsResponse> {
 public:
  explicit ThreeLines(grpc::CallbackServerContext* context) : context_(context) { next(); }
  void OnWriteDone(bool) override { next(); }
  void OnDone() override { delete this; }

 private:
  void next() {
    if (++line_ > 3) {
      context_->AddTrailingMetadata(kReasonKey, "that-was-all");
      return Finish({grpc::StatusCode::ABORTED, "enough"});
    }
    message_.Clear();
    message_.add_lines()->set_line(std::string(1, static_cast<char>('a' + line_ - 1)));
    StartWrite(&message_);
  }
  grpc::CallbackServerContext* context_;
  v1::ServiceLogsResponse message_;
  int line_ = 0;
};

class FewReachable final : public members::Reachability {
 public:
  explicit FewReachable(Executor& strand) : strand_(strand) {}
  void check(const std::string& address, UniqueFunction<void(Status)> done) override {
    ++checks;
    strand_.post([address, done = std::move(done)]() mutable {
      done(address == "10.0.0.3:2377" ? ok_status() : unavailable("refused"));
    });
  }
  std::atomic<int> checks = 0;

 private:
  Executor& strand_;
};

struct Manager {
  Manager(const std::string& id, security::Principal caller,
          std::function<std::shared_ptr<grpc::Channel>(const std::string&)> route,
          Duration patience = 200ms)
      : strand("manager"),
        node(id, strand),
        log(strand),
        store(strand, &log, null_log()),
        api(strand, rng, node, null_log()),
        reachability(strand) {
    on(strand, [&] { api.activate(store, &group); });
    ControlServiceOptions options;
    options.leader.channel = std::move(route);
    options.leader.reachability = &reachability;
    options.leader.patience = patience;
    options.service_logs = [](grpc::CallbackServerContext* context, const auto&) {
      return new ThreeLines(context);
    };
    service = make_control_service(
        api, [caller](const grpc::ServerContextBase&) { return caller; }, std::move(options));
    grpc::ServerBuilder builder;
    builder.RegisterService(service.get());
    server = builder.BuildAndStart();
    channel = server->InProcessChannel({});
    stub = v1::Control::NewStub(channel);
  }
  void stop() {
    if (server == nullptr) return;
    server->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(1));
    server.reset();
  }

  ThreadExecutor strand;
  SeededRng rng{7};
  TestNode node;
  ToldGroup group;
  TestLog log;
  store::Store store;
  ControlApi api;
  FewReachable reachability;
  std::unique_ptr<grpc::Service> service;
  std::unique_ptr<grpc::Server> server;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<v1::Control::Stub> stub;
};

security::Principal user() {
  security::Principal out;
  out.kind = security::Principal::Kind::kLocalUser;
  return out;
}
security::Principal manager_node() {
  security::Principal out;
  out.kind = security::Principal::Kind::kNode;
  out.node_id = "n1";
  out.manager = true;
  return out;
}

class ProxyTest : public testing::Test {
 protected:
  ProxyTest() {
    leader_.log.share(index_);
    follower_.log.share(index_);
    // What the leader commits reaches the follower, unless that is held back.
    leader_.log.committed = [this](uint64_t index, const std::string& entry) {
      std::lock_guard lock(mutex_);
      held_.emplace_back(index, entry);
      if (!hold_back_) release();
    };
    view_.leader = {2};
    view_.term = 1;
    view_.members = {members::member(1, "n1"), members::member(2, "n2"),
                     members::member(3, "n3", true, false)};
    tell();
    on(leader_.strand, [&] { leader_.store.lead(1); });
    write_nodes();
  }
  ~ProxyTest() override {
    follower_.stop();
    leader_.stop();
    follower_.strand.stop();
    leader_.strand.stop();
  }
  // What both know. A follower knows nothing of the others.
  void tell() {
    raft::GroupView view = view_;
    view.self = {2};
    view.leads = view.leader == view.self;
    leader_.group.tell(view);
    view.self = {1};
    view.leads = view.leader == view.self;
    for (auto& m : view.members) m.reachable = true;
    follower_.group.tell(view);
  }
  void write_nodes() {
    std::promise<Status> done;
    leader_.strand.post([&] {
      leader_.store.update(
          [](store::Transaction& tx) -> Status {
            for (const char* id : {"n1", "n2", "n3"}) {
              v1::Node node;
              node.set_id(id);
              node.mutable_spec()->set_desired_role(v1::NodeSpec::MANAGER);
              node.set_role(v1::NodeSpec::MANAGER);
              MUSTER_TRY(tx.create(std::move(node)));
            }
            return ok_status();
          },
          [&](const store::Commit& commit) { done.set_value(commit.status); });
    });
    ASSERT_TRUE(done.get_future().get().ok());
    on(follower_.strand, [] {});
  }
  void release() {
    for (auto& [index, entry] : held_) {
      follower_.strand.post([this, index = index, entry = entry] {
        const Status applied = follower_.store.apply(index, entry);
        EXPECT_TRUE(applied.ok()) << applied.to_string();
      });
    }
    held_.clear();
  }
  static v1::CreateNetworkRequest network(const std::string& name, const std::string& id = {}) {
    v1::CreateNetworkRequest request;
    request.mutable_spec()->mutable_annotations()->set_name(name);
    request.set_request_id(id);
    return request;
  }
  struct Answer {
    grpc::Status status;
    std::string reason;
  };
  template <class Request, class Response>
  Answer call(Manager& manager,
              grpc::Status (v1::Control::Stub::*method)(grpc::ClientContext*, const Request&,
                                                        Response*),
              const Request& request, Response* response, const std::string& forwarded = {}) {
    grpc::ClientContext context;
    if (!forwarded.empty()) context.AddMetadata(kForwardedKey, forwarded);
    Answer out;
    out.status = (manager.stub.get()->*method)(&context, request, response);
    const auto& trailers = context.GetServerTrailingMetadata();
    if (const auto it = trailers.find(kReasonKey); it != trailers.end()) {
      out.reason.assign(it->second.data(), it->second.size());
    }
    return out;
  }
  Answer create(Manager& manager, const v1::CreateNetworkRequest& request,
                const std::string& forwarded = {}) {
    v1::CreateNetworkResponse response;
    return call(manager, &v1::Control::Stub::CreateNetwork, request, &response, forwarded);
  }

  std::shared_ptr<uint64_t> index_ = std::make_shared<uint64_t>(0);
  std::mutex mutex_;
  bool hold_back_ = false;
  std::vector<std::pair<uint64_t, std::string>> held_;
  raft::GroupView view_;
  Manager leader_{"n2", manager_node(), nullptr};
  Manager follower_{"n1", user(), [this](const std::string& address) {
                      EXPECT_EQ(address, "10.0.0.2:2377");
                      return to_leader_;
                    }};
  std::shared_ptr<grpc::Channel> to_leader_ = leader_.channel;
};

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

TEST_F(ProxyTest, WithoutALeaderEverythingSaysSoAndCounts) {
  view_.leader = {0};
  tell();
  const std::string expected =
      "The swarm does not have a leader. It's possible that too few managers are online. Make sure "
      "more than half of the managers are online. From this manager 2 of 3 managers can be "
      "reached, itself included; 1 is missing.";
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
