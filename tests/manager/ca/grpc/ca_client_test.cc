#include "manager/ca/grpc/ca_client.h"

#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <optional>

#include "base/security/tls/credentials.h"
#include "base/thread_executor.h"
#include "manager/ca/admission.h"
#include "manager/ca/grpc/ca_service.h"
#include "manager/ca/root.h"
#include "tests/manager/members/fake_group.h"
#include "tests/manager/store/instant_proposer.h"

namespace muster::manager::ca {
namespace {

// A manager with a CA of its own, as joiners meet it: over TLS.
class Manager {
 public:
  Manager() : Manager(*security::create_root(SystemClock().wall_now()), {}, true) {}
  // `leader` is where it sends those whom it cannot serve.
  Manager(const security::CertificateAndKey& root, std::string leader, bool leads)
      : leader_(std::move(leader)) {
    run([&] {
      store_.lead(1);
      group_.state.members = {members::member(1, "m1")};
      authority_.emplace(strand_, store_, group_, null_log());
      if (leads) authority_->start();
    });
    v1::Cluster cluster;
    cluster.set_id("c1");
    cluster.mutable_spec()->mutable_annotations()->set_name("default");
    cluster.mutable_spec()->set_node_cert_expiry_ns(Duration(24h).count());
    *cluster.mutable_root_ca() = *make_root_ca(root);
    v1::Node self;
    self.set_id("m1");
    self.set_role(v1::NodeSpec::MANAGER);
    write([&](store::Transaction& tx) -> Status {
      MUSTER_TRY(tx.create(cluster));
      return tx.create(self);
    });
    security::NodeCredentials own;
    own.node.key_pem = *security::generate_key();
    const auto issued = issue(*store_.snapshot().cluster(), self,
                              *security::create_signing_request(own.node.key_pem), now());
    own.node.certificate_pem = issued->certificate_pem();
    own.root_pem = issued->trust_root_pem();
    service_ = make_ca_service({strand_, [this] { return &*authority_; },
                                [this] { return store_.snapshot(); }, [this] { return leader_; }});
    grpc::ServerBuilder builder;
    builder.AddListeningPort(
        "127.0.0.1:0", security::server_credentials(*security::TlsIdentity::create(own)), &port_);
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
  }
  ~Manager() {
    server_->Shutdown(std::chrono::system_clock::now());
    server_.reset();
    run([&] { authority_.reset(); });
    strand_.stop();
  }

  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
  WallTime now() const { return strand_.clock().wall_now(); }
  store::Snapshot snapshot() const { return store_.snapshot(); }
  v1::JoinTokens tokens() const { return snapshot().cluster()->root_ca().join_tokens(); }
  void write(std::function<Status(store::Transaction&)> change) {
    std::promise<Status> outcome;
    strand_.post([&] {
      store_.update([&](store::Transaction& tx) { return change(tx); },
                    [&](const store::Commit& commit) { outcome.set_value(commit.status); });
    });
    const Status status = outcome.get_future().get();
    EXPECT_TRUE(status.ok()) << status.to_string();
  }

 private:
  void run(std::function<void()> what) {
    std::promise<void> done;
    strand_.post([&] {
      what();
      done.set_value();
    });
    done.get_future().get();
  }

  const bool tls13_ = (security::require_tls13(), true);
  ThreadExecutor strand_{"ca-test"};
  store::InstantProposer proposer_{strand_};
  store::Store store_{strand_, &proposer_, null_log()};
  members::FakeGroup group_{strand_};
  std::string leader_;
  std::optional<CertificateAuthority> authority_;
  std::unique_ptr<grpc::Service> service_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

JoinRequest request_of(const std::string& token, std::vector<std::string> addresses) {
  JoinRequest request;
  request.addresses = std::move(addresses);
  request.join_token = token;
  request.key_pem = *security::generate_key();
  request.hostname = "host";
  return request;
}

TEST(CaClient, JoinsAndRenews) {
  Manager manager;
  const JoinRequest request = request_of(manager.tokens().worker(), {manager.address()});
  const auto joined = join_swarm(request, manager.now(), 20s);
  ASSERT_TRUE(joined) << joined.error().to_string();
  EXPECT_FALSE(joined->manager);
  EXPECT_EQ(joined->cluster_id, "c1");
  EXPECT_EQ(joined->manager_addrs, (std::vector<std::string>{"10.0.0.1:2377"}));
  const auto node = manager.snapshot().get<v1::Node>(joined->node_id);
  ASSERT_NE(node, nullptr);
  EXPECT_EQ(node->status().address(), "127.0.0.1");
  // The answer was lost: the same node once more.
  EXPECT_EQ(join_swarm(request, manager.now(), 20s)->node_id, joined->node_id);

  const auto identity = *security::TlsIdentity::create(joined->credentials);
  manager.write([&](store::Transaction& tx) -> Status {
    v1::Node promoted = *tx.view().get<v1::Node>(joined->node_id);
    promoted.set_role(v1::NodeSpec::MANAGER);
    return tx.update(std::move(promoted));
  });
  const auto renewed = renew_certificate(*identity, {manager.address()}, manager.now(), 20s);
  ASSERT_TRUE(renewed) << renewed.error().to_string();
  EXPECT_EQ(renewed->node_id, joined->node_id);
  EXPECT_TRUE(renewed->manager);
  EXPECT_NE(renewed->credentials.node.key_pem, joined->credentials.node.key_pem);
  EXPECT_TRUE(identity->replace(renewed->credentials).ok());

  manager.write([&](store::Transaction& tx) { return tx.remove<v1::Node>(joined->node_id); });
  const auto removed = renew_certificate(*identity, {manager.address()}, manager.now(), 20s);
  ASSERT_FALSE(removed);
  EXPECT_EQ(removed.error().code(), StatusCode::kPermissionDenied);
  EXPECT_EQ(removed.error().reason(), "node-removed");
}

TEST(CaClient, RootsRotateUnderNodes) {
  Manager manager;
  const auto joined =
      join_swarm(request_of(manager.tokens().worker(), {manager.address()}), manager.now(), 20s);
  ASSERT_TRUE(joined) << joined.error().to_string();
  manager.write([&](store::Transaction& tx) -> Status {
    v1::Cluster cluster = *tx.view().cluster();
    MUSTER_TRY(begin_rotation(cluster, {}, manager.now()));
    return tx.update(std::move(cluster));
  });
  // The manager itself still serves with its old certificate.
  const auto identity = *security::TlsIdentity::create(joined->credentials);
  const auto renewed = renew_certificate(*identity, {manager.address()}, manager.now(), 20s);
  ASSERT_TRUE(renewed) << renewed.error().to_string();
  EXPECT_EQ(*security::read_issuer(renewed->credentials.node.certificate_pem,
                                   renewed->credentials.root_pem),
            *wanted_issuer(manager.snapshot().cluster()->root_ca()));
  EXPECT_EQ(security::split_bundle(renewed->credentials.root_pem)->size(), 2u);
  ASSERT_TRUE(identity->replace(renewed->credentials).ok());
  EXPECT_TRUE(renew_certificate(*identity, {manager.address()}, manager.now(), 20s));
  EXPECT_TRUE(
      join_swarm(request_of(manager.tokens().manager(), {manager.address()}), manager.now(), 20s));
}

TEST(CaClient, FollowsToTheLeaderAndPastTheDead) {
  const auto root = *security::create_root(SystemClock().wall_now());
  Manager leader(root, {}, true);
  Manager follower(root, leader.address(), false);
  const auto joined = join_swarm(
      request_of(leader.tokens().worker(), {"127.0.0.1:1", follower.address()}), leader.now(), 20s);
  ASSERT_TRUE(joined) << joined.error().to_string();
  EXPECT_NE(leader.snapshot().get<v1::Node>(joined->node_id), nullptr);
  EXPECT_EQ(follower.snapshot().get<v1::Node>(joined->node_id), nullptr);

  // By two who are not; and by one who does not know.
  Manager lost(root, leader.address(), false);
  Manager confused(root, lost.address(), false);
  EXPECT_TRUE(
      join_swarm(request_of(leader.tokens().worker(), {confused.address()}), leader.now(), 20s));
  Manager leaderless(root, {}, false);
  const auto refused =
      join_swarm(request_of(leader.tokens().worker(), {leaderless.address()}), leader.now(), 20s);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().reason(), "not-leader");
}

TEST(CaClient, WhatIsWrongIsSaid) {
  Manager manager;
  const Manager other;
  const std::string good = manager.tokens().worker();
  const auto error = [&](const std::string& token, std::vector<std::string> addresses) {
    const auto joined = join_swarm(request_of(token, std::move(addresses)), manager.now(), 20s);
    return joined ? Status() : joined.error();
  };
  EXPECT_EQ(error("SWMTKN-1-x", {manager.address()}).message(), "invalid join token");
  const Status foreign = error(other.tokens().worker(), {manager.address()});
  EXPECT_EQ(foreign.code(), StatusCode::kUnauthenticated);
  EXPECT_NE(foreign.message().find("remote CA does not match fingerprint"), std::string::npos)
      << foreign.message();
  const Status rotated =
      error(*new_join_token(manager.snapshot().cluster()->root_ca()), {manager.address()});
  EXPECT_EQ(rotated.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(rotated.message(),
            "A valid join token is necessary to join this cluster: this one is wrong, or was "
            "rotated");
  const Status dead = error(good, {"127.0.0.1:1"});
  EXPECT_EQ(dead.code(), StatusCode::kUnavailable);
  EXPECT_NE(dead.message().find("127.0.0.1:1: "), std::string::npos) << dead.message();
  EXPECT_EQ(error(good, {}).message(), "no manager gave a certificate: no address of one is known");
  // Another swarm's manager among the addresses does not keep one from joining.
  EXPECT_TRUE(error(good, {other.address(), manager.address()}).ok());
}

TEST(CaClient, ClocksThatDifferAndCertificatesThatEndedAreToldApart) {
  Manager manager;
  const auto skewed = join_swarm(request_of(manager.tokens().worker(), {manager.address()}),
                                 manager.now() - 48h, 20s);
  ASSERT_FALSE(skewed);
  EXPECT_EQ(skewed.error().reason(), "clock-skew");
  EXPECT_NE(skewed.error().message().find("clocks"), std::string::npos) << skewed.error().message();

  const auto joined =
      join_swarm(request_of(manager.tokens().worker(), {manager.address()}), manager.now(), 20s);
  ASSERT_TRUE(joined);
  const auto identity = *security::TlsIdentity::create(joined->credentials);
  const auto late = renew_certificate(*identity, {manager.address()}, manager.now() + 48h, 20s);
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().reason(), "certificate-expired");
}

}  // namespace
}  // namespace muster::manager::ca
