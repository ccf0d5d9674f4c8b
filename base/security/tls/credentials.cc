#include "base/security/tls/credentials.h"

#include <grpc/grpc_security_constants.h>
#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>

#include <cstdlib>
#include <vector>

#include "base/security/x509.h"

namespace muster::security {
namespace {

std::shared_ptr<grpc::experimental::CertificateProviderInterface> provider(
    const NodeCredentials& node) {
  return std::make_shared<grpc::experimental::StaticDataCertificateProvider>(
      node.root_pem, std::vector<grpc::experimental::IdentityKeyCertPair>{
                         {node.node.key_pem, node.node.certificate_pem}});
}

}  // namespace

void require_tls13() {
  setenv("GRPC_SSL_CIPHER_SUITES", "PSK-AES256-GCM-SHA384", 1);
}

std::shared_ptr<grpc::ServerCredentials> server_credentials(const NodeCredentials& node) {
  grpc::experimental::TlsServerCredentialsOptions options(provider(node));
  options.watch_root_certs();
  options.watch_identity_key_cert_pairs();
  options.set_cert_request_type(GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_AND_VERIFY);
  return grpc::experimental::TlsServerCredentials(options);
}

std::shared_ptr<grpc::ChannelCredentials> channel_credentials(const NodeCredentials& node) {
  grpc::experimental::TlsChannelCredentialsOptions options;
  options.set_certificate_provider(provider(node));
  options.watch_root_certs();
  options.watch_identity_key_cert_pairs();
  return grpc::experimental::TlsCredentials(options);
}

grpc::ChannelArguments manager_channel_arguments() {
  grpc::ChannelArguments arguments;
  arguments.SetSslTargetNameOverride(std::string(organizational_unit(CertificateRole::kManager)));
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 2000);  // doubles as the connect time-out
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 5000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 5000);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  return arguments;
}

Principal principal_of_tls(const grpc::ServerContextBase& context) {
  Principal principal;
  const auto auth = context.auth_context();
  if (auth == nullptr || !auth->IsPeerAuthenticated()) return principal;
  const auto pem = auth->FindPropertyValues(GRPC_X509_PEM_CERT_PROPERTY_NAME);
  if (pem.size() != 1) return principal;
  const auto facts = read_certificate({pem[0].data(), pem[0].size()});
  if (!facts) return principal;
  principal.kind = Principal::Kind::kNode;
  principal.node_id = facts->identity.node_id;
  principal.manager = facts->identity.role == CertificateRole::kManager;
  principal.cluster_id = facts->identity.cluster_id;
  return principal;
}

}  // namespace muster::security
