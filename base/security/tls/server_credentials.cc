#include <grpc/grpc.h>
#include <grpc/grpc_security.h>

#include <atomic>
#include <string_view>
#include <utility>

#include "base/check.h"
#include "base/security/tls/credentials.h"

// The server's side on gRPC's C interface, since only there can the certificate be asked for anew
// at every handshake, and a call be refused before its service sees it.
namespace muster::security {
namespace {

// Of one listening port; gRPC deletes it with the credentials (the last lines of AddPortToServer).
struct Port {
  std::shared_ptr<TlsIdentity> identity;
  CallGate gate;
  std::atomic<uint64_t> generation{0};  // that gRPC has
};

grpc_ssl_certificate_config_reload_status fetch(void* state,
                                                grpc_ssl_server_certificate_config** config) {
  Port& port = *static_cast<Port*>(state);
  const auto current = port.identity->current();
  if (port.generation.load() == current->generation) {
    return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
  }
  const NodeCredentials& node = current->credentials;
  const grpc_ssl_pem_key_cert_pair pair{node.node.key_pem.c_str(),
                                        node.node.certificate_pem.c_str()};
  *config = grpc_ssl_server_certificate_config_create(node.root_pem.c_str(), &pair, 1);
  port.generation.store(current->generation);
  return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
}

// A node or a client whose certificate TLS has verified, or nobody.
Principal principal_of_subject(std::string_view subject) {
  Principal principal;
  const auto identity = parse_subject(subject);
  if (!identity) return principal;
  principal.kind = identity->role == CertificateRole::kClient ? Principal::Kind::kClient
                                                              : Principal::Kind::kNode;
  principal.node_id = identity->node_id;
  principal.manager = identity->role == CertificateRole::kManager;
  principal.cluster_id = identity->cluster_id;
  return principal;
}

Principal principal_of(const grpc_auth_context* context) {
  auto properties =
      grpc_auth_context_find_properties_by_name(context, GRPC_X509_SUBJECT_PROPERTY_NAME);
  const grpc_auth_property* subject = grpc_auth_property_iterator_next(&properties);
  if (subject == nullptr || !grpc_auth_context_peer_is_authenticated(context)) return {};
  return principal_of_subject({subject->value, subject->value_length});
}

void pass_gate(void* state, grpc_auth_context* context, const grpc_metadata* metadata, size_t count,
               grpc_process_auth_metadata_done_cb done, void* user_data) {
  const Port& port = *static_cast<Port*>(state);
  Status outcome;
  if (port.gate) {
    std::string method;
    for (size_t i = 0; i < count; ++i) {
      if (grpc_slice_str_cmp(metadata[i].key, ":path") != 0) continue;
      const grpc_slice& path = metadata[i].value;
      method = method_of_path(
          {reinterpret_cast<const char*>(GRPC_SLICE_START_PTR(path)), GRPC_SLICE_LENGTH(path)});
    }
    outcome = port.gate(method, principal_of(context));
  }
  done(user_data, nullptr, 0, nullptr, 0, static_cast<grpc_status_code>(outcome.code()),
       outcome.ok() ? nullptr : outcome.message().c_str());
}

class RotatingServerCredentials final : public grpc::ServerCredentials {
 public:
  RotatingServerCredentials(std::shared_ptr<TlsIdentity> identity, CallGate gate)
      : identity_(std::move(identity)), gate_(std::move(gate)) {}

  void SetAuthMetadataProcessor(const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {
    MUSTER_CHECK(false, "the gate has the place of the metadata processor");
  }

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override {
    auto* port = new Port{identity_, gate_};
    grpc_server_credentials* credentials = grpc_ssl_server_credentials_create_with_options(
        grpc_ssl_server_credentials_create_options_using_config_fetcher(
            GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_AND_VERIFY, &fetch, port));
    grpc_server_credentials_set_auth_metadata_processor(
        credentials, {&pass_gate, [](void* state) { delete static_cast<Port*>(state); }, port});
    const int bound = grpc_server_add_http2_port(server, address.c_str(), credentials);
    grpc_server_credentials_release(credentials);
    return bound;
  }

  std::shared_ptr<TlsIdentity> identity_;
  CallGate gate_;
};

}  // namespace

std::shared_ptr<grpc::ServerCredentials> server_credentials(std::shared_ptr<TlsIdentity> identity,
                                                            CallGate gate) {
  return std::make_shared<RotatingServerCredentials>(std::move(identity), std::move(gate));
}

Principal principal_of_tls(const grpc::ServerContextBase& context) {
  const auto auth = context.auth_context();
  if (auth == nullptr || !auth->IsPeerAuthenticated()) return {};
  const auto subject = auth->FindPropertyValues(GRPC_X509_SUBJECT_PROPERTY_NAME);
  if (subject.size() != 1) return {};
  return principal_of_subject({subject[0].data(), subject[0].size()});
}

}  // namespace muster::security
