#include <grpcpp/create_channel.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>

#include "base/process.h"
#include "base/security/join_token.h"
#include "base/security/tls/credentials.h"
#include "muster/v1/ca.grpc.pb.h"

namespace muster::security {
namespace {

// gRPC reads the setting at its first use.
const bool kTls13 = (require_tls13(), true);

// OpenSSL inside gRPC goes by the machine's clock.
WallTime real_now() {
  const auto since = std::chrono::system_clock::now().time_since_epoch();
  return {std::chrono::duration_cast<Duration>(since).count()};
}

NodeCredentials issue(const CertificateAndKey& root, const CertificateIdentity& who,
                      WallTime now = real_now(), const std::string& intermediates = {}) {
  NodeCredentials node;
  node.root_pem = root.certificate_pem;
  node.node.key_pem = *generate_key();
  node.node.certificate_pem =
      *sign_request(root, *create_signing_request(node.node.key_pem), who, now, 24h) +
      intermediates;
  return node;
}

// Tells callers who it takes them for.
class Mirror final : public v1::Ca::CallbackService {
 public:
  grpc::ServerUnaryReactor* IssueCertificate(grpc::CallbackServerContext* context,
                                             const v1::IssueCertificateRequest*,
                                             v1::IssueCertificateResponse* response) override {
    const Principal caller = principal_of_tls(*context);
    if (caller.kind == Principal::Kind::kNode) {
      response->set_node_id(caller.node_id);
      response->set_cluster_id(caller.cluster_id);
      response->set_role(caller.manager ? v1::NodeSpec::MANAGER : v1::NodeSpec::WORKER);
    }
    ++calls;
    auto* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }
  std::atomic<int> calls{0};
};

class Tls : public testing::Test {
 protected:
  ~Tls() override {
    if (server_ != nullptr) server_->Shutdown(std::chrono::system_clock::now());
  }

  void serve(const NodeCredentials& credentials, CallGate gate = {}) {
    identity_ = *TlsIdentity::create(credentials);
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", server_credentials(identity_, std::move(gate)), &port_);
    builder.RegisterService(&mirror_);
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    ASSERT_GT(port_, 0);
  }
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

  struct Answer {
    grpc::Status status;
    v1::IssueCertificateResponse response;
  };
  static Answer ask(const std::shared_ptr<grpc::Channel>& channel) {
    Answer answer;
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
    answer.status = v1::Ca::NewStub(channel)->IssueCertificate(&context, {}, &answer.response);
    return answer;
  }
  Answer ask_with(const std::shared_ptr<grpc::ChannelCredentials>& credentials) const {
    return ask(grpc::CreateCustomChannel(address(), credentials, manager_channel_arguments()));
  }

  const CertificateAndKey root_ = *create_root(real_now());
  const CertificateIdentity manager_{"m1", CertificateRole::kManager, "c1"};
  const CertificateIdentity worker_{"w1", CertificateRole::kWorker, "c1"};
  Mirror mirror_;
  int port_ = 0;
  std::shared_ptr<TlsIdentity> identity_;
  std::unique_ptr<grpc::Server> server_;
};

TEST_F(Tls, ServersKnowWhoCalls) {
  serve(issue(root_, manager_));
  const auto worker = ask_with(channel_credentials(issue(root_, worker_)));
  ASSERT_TRUE(worker.status.ok()) << worker.status.error_message();
  EXPECT_EQ(worker.response.node_id(), "w1");
  EXPECT_EQ(worker.response.cluster_id(), "c1");
  EXPECT_EQ(worker.response.role(), v1::NodeSpec::WORKER);
  const auto manager = ask_with(channel_credentials(issue(root_, manager_), "m1"));
  ASSERT_TRUE(manager.status.ok()) << manager.status.error_message();
  EXPECT_EQ(manager.response.role(), v1::NodeSpec::MANAGER);
}

TEST_F(Tls, CallersWithoutACertificateAreNobody) {
  serve(issue(root_, manager_));
  for (const std::string& root : {std::string(), root_.certificate_pem}) {
    const auto answer = ask_with(joiner_channel_credentials(root));
    ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
    EXPECT_EQ(answer.response.node_id(), "");
  }
}

TEST_F(Tls, ServersRefuseCertificatesThatNobodyVouchesFor) {
  serve(issue(root_, manager_));
  // What the caller trusts is in order, what it shows is not.
  NodeCredentials foreign = issue(*create_root(real_now()), worker_);
  foreign.root_pem = root_.certificate_pem;
  EXPECT_FALSE(ask_with(channel_credentials(foreign)).status.ok());
  EXPECT_FALSE(ask_with(channel_credentials(issue(root_, worker_, real_now() - 48h))).status.ok());
  EXPECT_EQ(mirror_.calls, 0);
  EXPECT_TRUE(ask_with(channel_credentials(issue(root_, worker_))).status.ok());
}

struct BadServer {
  const char* name;
  CertificateIdentity server;
  const char* expected_node;
  Duration age;
  const char* says;
};
class BadServers : public Tls, public testing::WithParamInterface<BadServer> {};
TEST_P(BadServers, AreRefusedByCallers) {
  serve(issue(root_, GetParam().server, real_now() - GetParam().age));
  const NodeCredentials caller = issue(root_, worker_);
  const auto answer = ask_with(channel_credentials(caller, GetParam().expected_node));
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_NE(answer.status.error_message().find(GetParam().says), std::string::npos)
      << answer.status.error_message();
  EXPECT_EQ(mirror_.calls, 0);
}
INSTANTIATE_TEST_SUITE_P(
    Tls, BadServers,
    testing::Values(BadServer{"Worker",
                              {"w2", CertificateRole::kWorker, "c1"},
                              "",
                              0s,
                              "node w2 answers there, which is not a manager"},
                    BadServer{"OtherSwarm",
                              {"m1", CertificateRole::kManager, "c2"},
                              "",
                              0s,
                              "a manager of another swarm (c2) answers there"},
                    BadServer{"OtherNode",
                              {"m2", CertificateRole::kManager, "c1"},
                              "m1",
                              0s,
                              "node m2 answers there, not m1"},
                    BadServer{"Expired", {"m1", CertificateRole::kManager, "c1"}, "m1", 48h, ""}),
    [](const auto& info) { return info.param.name; });

TEST_F(Tls, CallersRefuseServersOfAnotherRoot) {
  serve(issue(root_, manager_));
  const auto other = *create_root(real_now());
  EXPECT_FALSE(ask_with(channel_credentials(issue(other, worker_))).status.ok());
  EXPECT_FALSE(ask_with(joiner_channel_credentials(other.certificate_pem)).status.ok());
  EXPECT_EQ(mirror_.calls, 0);
}

TEST_F(Tls, JoinersRefuseAWorkerThatPosesAsManager) {
  serve(issue(root_, {"w2", CertificateRole::kWorker, "c1"}));
  EXPECT_FALSE(ask_with(joiner_channel_credentials(root_.certificate_pem)).status.ok());
}

TEST_F(Tls, OnlyTls13IsSpoken) {
  serve(issue(root_, manager_));
  const auto speak = [&](const char* version) {
    ProcessOptions options;
    // Debian's openssl would not speak the older ones by itself.
    options.argv = {"openssl", "s_client", "-connect", address(),        version,
                    "-alpn",   "h2",       "-cipher",  "ALL:@SECLEVEL=0"};
    const auto run = run_process(options);
    EXPECT_TRUE(run) << run.error().to_string();
    return run->exit.success();
  };
  EXPECT_TRUE(speak("-tls1_3"));
  EXPECT_FALSE(speak("-tls1_2"));
  EXPECT_FALSE(speak("-tls1_1"));
}

// The whole of a root's rotation as servers and callers see it, without a restart of either.
TEST_F(Tls, RootsRotateUnderRunningServersAndChannels) {
  serve(issue(root_, manager_));
  const auto caller = *TlsIdentity::create(issue(root_, worker_));
  ManagerChannel channel(caller, address(), "m1");
  const auto before = channel.get();
  ASSERT_TRUE(ask(before).status.ok());
  EXPECT_EQ(channel.get(), before);

  // The server's certificate is renewed first: by the new root, with the cross-signed one behind
  // it.
  const auto next = *create_root(real_now());
  const std::string cross = *cross_sign(next.certificate_pem, root_, real_now());
  const std::string both = *make_bundle({root_.certificate_pem, next.certificate_pem});
  NodeCredentials server = issue(next, manager_, real_now(), cross);
  server.root_pem = both;
  ASSERT_TRUE(identity_->replace(server).ok());
  EXPECT_TRUE(ask(before).status.ok());  // the connection it has
  EXPECT_TRUE(ask_with(channel_credentials(issue(root_, worker_))).status.ok());  // a new one
  EXPECT_TRUE(ask_with(joiner_channel_credentials(root_.certificate_pem)).status.ok());

  NodeCredentials renewed = issue(next, worker_, real_now(), cross);
  renewed.root_pem = both;
  ASSERT_TRUE(caller->replace(renewed).ok());
  EXPECT_NE(channel.get(), before);
  EXPECT_TRUE(ask(channel.get()).status.ok());

  // The old root goes: its certificates are good for nothing, the new ones stay so.
  server.root_pem = renewed.root_pem = next.certificate_pem;
  ASSERT_TRUE(identity_->replace(server).ok());
  ASSERT_TRUE(caller->replace(renewed).ok());
  EXPECT_TRUE(ask(channel.get()).status.ok());
  NodeCredentials late = issue(root_, worker_);
  late.root_pem = both;
  EXPECT_FALSE(ask_with(channel_credentials(late)).status.ok());
}

TEST_F(Tls, TheGateStandsBeforeEveryCall) {
  std::atomic<bool> open{true};
  std::string seen;
  serve(issue(root_, manager_), [&](std::string_view method, const Principal& caller) -> Status {
    seen = std::string(method) + " by " + caller.node_id;
    return open ? ok_status() : permission_denied("node {} was removed", caller.node_id);
  });
  const auto channel = grpc::CreateCustomChannel(
      address(), channel_credentials(issue(root_, worker_)), manager_channel_arguments());
  EXPECT_TRUE(ask(channel).status.ok());
  EXPECT_EQ(seen, "muster.v1.Ca.IssueCertificate by w1");
  open = false;
  const auto refused = ask(channel);
  EXPECT_EQ(refused.status.error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(refused.status.error_message(), "node w1 was removed");
  EXPECT_EQ(mirror_.calls, 1);
}

}  // namespace
}  // namespace muster::security
