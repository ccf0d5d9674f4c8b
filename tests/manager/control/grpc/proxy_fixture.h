#pragma once

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

// Names what was asked for, then ends.
class OneFinding final : public grpc::ServerWriteReactor<v1::ExamineNetworksResponse> {
 public:
  explicit OneFinding(const v1::ExamineNetworksRequest& request) {
    message_.add_findings()->set_text(request.networks_size() == 0 ? "all" : request.networks(0));
    message_.set_last(true);
    StartWriteAndFinish(&message_, {}, grpc::Status::OK);
  }
  void OnDone() override { delete this; }

 private:
  v1::ExamineNetworksResponse message_;
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
    options.examine_networks = [](grpc::CallbackServerContext*, const auto& request) {
      return new OneFinding(request);
    };
    service = make_control_service(
        api, [caller](const grpc::ServerContextBase&) { return caller; }, std::move(options));
    serve();
  }
  // Inside the process, and at `address` if there is one.
  void serve(const std::string& address = {}) {
    grpc::ServerBuilder builder;
    if (!address.empty()) builder.AddListeningPort(address, grpc::InsecureServerCredentials());
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

inline security::Principal user() {
  security::Principal out;
  out.kind = security::Principal::Kind::kLocalUser;
  return out;
}
inline security::Principal manager_node() {
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

}  // namespace muster::manager::control
