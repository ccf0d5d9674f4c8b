#include "base/security/tls/credentials.h"

#include <absl/synchronization/mutex.h>
#include <grpc/grpc_security_constants.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_certificate_verifier.h>
#include <grpcpp/security/tls_credentials_options.h>

#include <cstdlib>
#include <utility>
#include <vector>

#include "base/security/x509.h"

namespace muster::security {
namespace {

using grpc::experimental::ExternalCertificateVerifier;
using grpc::experimental::TlsCustomVerificationCheckRequest;

// What a server has to be beyond being vouched for: a manager, of this cluster, this very node.
class ManagerVerifier final : public ExternalCertificateVerifier {
 public:
  // Empty: any.
  ManagerVerifier(std::string cluster_id, std::string node_id)
      : cluster_id_(std::move(cluster_id)), node_id_(std::move(node_id)) {}

  bool Verify(TlsCustomVerificationCheckRequest* request, std::function<void(grpc::Status)>,
              grpc::Status* status) override {
    const grpc::string_ref pem = request->peer_cert();
    const Status checked = check({pem.data(), pem.size()});
    if (!checked.ok()) {
      *status = grpc::Status(grpc::StatusCode::UNAUTHENTICATED, checked.message());
    }
    return true;
  }
  void Cancel(TlsCustomVerificationCheckRequest*) override {}

 private:
  Status check(std::string_view pem) const {
    MUSTER_ASSIGN(const CertificateFacts facts, read_certificate(pem));
    const CertificateIdentity& peer = facts.identity;
    const auto refuse = [](std::string text) {
      return Status(StatusCode::kUnauthenticated, std::move(text));
    };
    if (peer.role != CertificateRole::kManager) {
      return refuse(fmt::format("node {} answers there, which is not a manager", peer.node_id));
    }
    if (!cluster_id_.empty() && peer.cluster_id != cluster_id_) {
      return refuse(fmt::format("a manager of another swarm ({}) answers there", peer.cluster_id));
    }
    if (!node_id_.empty() && peer.node_id != node_id_) {
      return refuse(fmt::format("node {} answers there, not {}", peer.node_id, node_id_));
    }
    return ok_status();
  }

  const std::string cluster_id_;
  const std::string node_id_;
};

class AnyServer final : public ExternalCertificateVerifier {
 public:
  bool Verify(TlsCustomVerificationCheckRequest*, std::function<void(grpc::Status)>,
              grpc::Status*) override {
    return true;
  }
  void Cancel(TlsCustomVerificationCheckRequest*) override {}
};

}  // namespace

void require_tls13() {
  setenv("GRPC_SSL_CIPHER_SUITES", "PSK-AES256-GCM-SHA384", 1);
}

void relax_grpc_locks() {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
}

std::shared_ptr<grpc::ChannelCredentials> channel_credentials(const NodeCredentials& node,
                                                              const std::string& expected_node_id) {
  using grpc::experimental::IdentityKeyCertPair;
  const auto own = read_certificate(node.node.certificate_pem);
  grpc::experimental::TlsChannelCredentialsOptions options;
  options.set_certificate_provider(
      std::make_shared<grpc::experimental::StaticDataCertificateProvider>(
          node.root_pem,
          std::vector<IdentityKeyCertPair>{{node.node.key_pem, node.node.certificate_pem}}));
  options.watch_root_certs();
  options.watch_identity_key_cert_pairs();
  options.set_check_call_host(false);
  options.set_certificate_verifier(ExternalCertificateVerifier::Create<ManagerVerifier>(
      own ? own->identity.cluster_id : std::string(), expected_node_id));
  return grpc::experimental::TlsCredentials(options);
}

std::shared_ptr<grpc::ChannelCredentials> joiner_channel_credentials(const std::string& root_pem) {
  grpc::experimental::TlsChannelCredentialsOptions options;
  options.set_check_call_host(false);
  if (root_pem.empty()) {
    options.set_verify_server_certs(false);
    options.set_certificate_verifier(ExternalCertificateVerifier::Create<AnyServer>());
  } else {
    options.set_certificate_provider(
        std::make_shared<grpc::experimental::StaticDataCertificateProvider>(root_pem));
    options.watch_root_certs();
    options.set_certificate_verifier(
        ExternalCertificateVerifier::Create<ManagerVerifier>(std::string(), std::string()));
  }
  return grpc::experimental::TlsCredentials(options);
}

grpc::ChannelArguments manager_channel_arguments(Duration connect_max) {
  grpc::ChannelArguments arguments;
  arguments.SetSslTargetNameOverride(std::string(organizational_unit(CertificateRole::kManager)));
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
  // It doubles as the connect time-out.
  const auto connect_ms = std::chrono::duration_cast<std::chrono::milliseconds>(connect_max);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, static_cast<int>(connect_ms.count()));
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 5000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 5000);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  return arguments;
}

ManagerChannel::ManagerChannel(std::shared_ptr<TlsIdentity> identity, std::string address,
                               std::string expected_node_id, grpc::ChannelArguments arguments)
    : identity_(std::move(identity)),
      address_(std::move(address)),
      expected_node_id_(std::move(expected_node_id)),
      arguments_(std::move(arguments)) {}

std::shared_ptr<grpc::Channel> ManagerChannel::get() {
  const auto current = identity_->current();
  std::lock_guard lock(mutex_);
  // A thread that was held up before the lock may bring an older one.
  if (channel_ == nullptr || current->generation > generation_) {
    channel_ = grpc::CreateCustomChannel(
        address_, channel_credentials(current->credentials, expected_node_id_), arguments_);
    generation_ = current->generation;
  }
  return channel_;
}

}  // namespace muster::security
