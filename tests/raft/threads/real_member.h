#pragma once

#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/security/tls/credentials.h"
#include "base/security/tls_identity.h"
#include "base/thread_executor.h"
#include "raft/node/log_disk.h"
#include "raft/node/node.h"
#include "raft/node/open_log.h"
#include "raft/transport/grpc/grpc_transport.h"
#include "tests/raft/issuer.h"

namespace muster::raft {

// How long anything may take before a test gives up; sanitizers are slow.
constexpr auto kPatience = std::chrono::seconds(60);

// The entries in their order, whoever proposed them. On the user's strand; `size()` and `leading()`
// on any thread.
class Ledger final : public StateMachine {
 public:
  Status apply(Index, std::string_view payload) override {
    add(std::string(payload));
    return ok_status();
  }
  void add(std::string payload) {
    std::lock_guard lock(mutex_);
    entries_.push_back(std::move(payload));
    changed_.notify_all();
  }
  Status restore_begin() override {
    std::lock_guard lock(mutex_);
    entries_.clear();
    return ok_status();
  }
  Status restore_chunk(std::string_view chunk) override { return apply(0, chunk); }
  Status restore_end() override {
    std::lock_guard lock(mutex_);
    ++restores_;
    changed_.notify_all();
    return ok_status();
  }
  SnapshotProducer capture() override {
    return [entries = entries()](const ChunkSink& sink) -> Status {
      for (const std::string& entry : entries) MUSTER_TRY(sink(entry));
      return ok_status();
    };
  }
  void lead(Term term) override { set_term(term); }
  void end_leading() override { set_term(0); }
  void group_changed() override {
    std::lock_guard lock(mutex_);
    changed_.notify_all();
  }

  Term leading() const { return term_; }
  int restores() const {
    std::lock_guard lock(mutex_);
    return restores_;
  }
  std::vector<std::string> entries() const {
    std::lock_guard lock(mutex_);
    return entries_;
  }
  // `what` is looked at whenever something happened, without the lock.
  testing::AssertionResult eventually(const std::function<bool()>& what) {
    const auto end = std::chrono::steady_clock::now() + kPatience;
    while (!what()) {
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, std::chrono::milliseconds(20));
      if (std::chrono::steady_clock::now() > end) {
        return testing::AssertionFailure() << "not in time";
      }
    }
    return testing::AssertionSuccess();
  }

 private:
  void set_term(Term term) {
    std::lock_guard lock(mutex_);
    term_ = term;
    changed_.notify_all();
  }

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> entries_;
  int restores_ = 0;
  std::atomic<Term> term_{0};
};

// One member as a manager has it: its log on the disk, its threads, its server on a port that stays
// the same from one life to the next.
class RealMember {
 public:
  RealMember(const Issuer& issuer, uint64_t number, std::filesystem::path dir)
      : issuer_(issuer), dir_(std::move(dir)) {
    self_.id = {number};
    self_.node_id = fmt::format("n{}", number);
    identity_ = *security::TlsIdentity::create(issuer_.issue(self_.node_id));
    serve(0);
    self_.address = fmt::format("127.0.0.1:{}", port_);
  }
  ~RealMember() {
    stop();
    close();
  }

  const Member& self() const { return self_; }
  Node& node() { return *node_; }
  Ledger& ledger() { return *ledger_; }
  Executor& strand() { return *user_strand_; }
  bool runs() const { return node_ != nullptr; }

  // From its next start on it bears with others that stand still for long, as they do when a
  // machine has more to do than it can; or it has the usual times.
  void be_patient(bool patient = true) {
    const Node::Options usual;
    options_.tuning.election_min = patient ? kPatience / 3 : usual.tuning.election_min;
    options_.deadline = patient ? kPatience : usual.deadline;
    options_.disk_silence_max = patient ? kPatience : usual.disk_silence_max;
    options_.user_silence_max = patient ? kPatience : usual.user_silence_max;
  }

  void start(StartMode mode, const Members& members, uint64_t snapshot_entries = 10'000) {
    if (server_ == nullptr) serve(port_);
    raft_strand_ = std::make_unique<ThreadExecutor>("raft");
    user_strand_ = std::make_unique<ThreadExecutor>("main-loop");
    ledger_ = std::make_unique<Ledger>();
    LogFiles files;
    files.dir = dir_;
    files.log = null_log();
    files.identity = {"c1", self_.node_id, self_.id};
    files.reserve_bytes = 0;
    auto opened = open_log(std::move(files));
    ASSERT_TRUE(opened) << opened.error().message();
    disk_ = std::make_unique<LogDisk>(std::move(opened->store));
    Node::Options options = options_;
    options.self = self_;
    options.mode = mode;
    options.members = members;
    options.snapshot_entries = snapshot_entries;
    options.trailing_entries = 5;
    node_ = std::make_unique<Node>(
        options, Node::Ports{*raft_strand_, *user_strand_, *disk_, rng_, null_log(), *ledger_},
        std::move(opened->restored));
    GrpcTransportOptions net;
    net.cluster_id = "c1";
    net.self = self_.id;
    net.address = self_.address;
    transport_ = std::make_unique<GrpcTransport>(
        net,
        [identity = identity_](const std::string& address, const std::string& node_id,
                               Duration connect_max) {
          return grpc::CreateCustomChannel(
              address, security::channel_credentials(identity->current()->credentials, node_id),
              security::manager_channel_arguments(connect_max));
        },
        node_->transport_events(), null_log());
    set_inbound(transport_->inbound());
    std::promise<Status> started;
    user_strand_->post([&] { started.set_value(node_->start(*transport_)); });
    const Status status = started.get_future().get();
    ASSERT_TRUE(status.ok()) << status.message();
  }

  // In good order: leadership is handed over, the others are told.
  void stop() {
    if (node_ == nullptr) return;
    std::promise<void> stopped;
    user_strand_->post([&] { node_->stop([&] { stopped.set_value(); }); });
    ASSERT_EQ(stopped.get_future().wait_for(kPatience), std::future_status::ready);
    set_inbound(nullptr);
    user_strand_->stop();
    raft_strand_->stop();
    node_.reset();
    transport_.reset();
    disk_.reset();
    close();
  }

  // From any thread; answered on the user's strand.
  void propose(std::string payload, std::function<void(Outcome)> done) {
    user_strand_->post([this, payload = std::move(payload), done = std::move(done)]() mutable {
      std::string entry = payload;
      node_->propose(ledger_->leading(), std::move(entry),
                     [this, payload = std::move(payload),
                      done = std::move(done)](const ProposeResult& result) mutable {
                       if (result.outcome == Outcome::kCommitted) ledger_->add(std::move(payload));
                       done(result.outcome);
                     });
    });
  }

  void rotate_certificate() { ASSERT_TRUE(identity_->replace(issuer_.issue(self_.node_id)).ok()); }

 private:
  void close() {
    if (server_ == nullptr) return;
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
    server_.reset();
  }
  void set_inbound(std::shared_ptr<Inbound> inbound) {
    std::lock_guard lock(mutex_);
    inbound_ = std::move(inbound);
  }
  void serve(uint16_t port) {
    service_ = make_raft_service(
        [this] {
          std::lock_guard lock(mutex_);
          return inbound_;
        },
        security::principal_of_tls);
    grpc::ServerBuilder builder;
    int bound = 0;
    builder.AddListeningPort(fmt::format("127.0.0.1:{}", port),
                             security::server_credentials(identity_), &bound);
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    port_ = static_cast<uint16_t>(bound);
  }

  const Issuer& issuer_;
  const std::filesystem::path dir_;
  Member self_;
  Node::Options options_;
  std::shared_ptr<security::TlsIdentity> identity_;
  SystemRng rng_;
  std::mutex mutex_;
  std::shared_ptr<Inbound> inbound_;  // guarded by mutex_
  std::unique_ptr<grpc::Service> service_;
  std::unique_ptr<grpc::Server> server_;
  uint16_t port_ = 0;
  std::unique_ptr<ThreadExecutor> raft_strand_;
  std::unique_ptr<ThreadExecutor> user_strand_;
  std::unique_ptr<Ledger> ledger_;
  std::unique_ptr<LogDisk> disk_;
  std::unique_ptr<Node> node_;
  std::unique_ptr<GrpcTransport> transport_;
};

}  // namespace muster::raft
