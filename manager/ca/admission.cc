#include "manager/ca/admission.h"

#include <algorithm>

#include "base/security/base36.h"
#include "base/security/join_token.h"
#include "manager/ca/address.h"
#include "manager/ca/root.h"
#include "manager/mutant.h"

namespace muster::manager::ca {
namespace {

constexpr Duration kExpiryDefault = 24h * 90;
// Whoever asks for less than an hour is refused (control/validation.h); whatever is stored, no node
// is given less than it needs to renew.
constexpr Duration kExpiryLeast = 1min;
constexpr size_t kRequestBytesMax = 16 << 10;
constexpr size_t kHostnameBytesMax = 253;
constexpr size_t kClientNameBytesMax = 64;  // what X.509 has room for

Status bad_token(std::string_view why) {
  return Status(StatusCode::kInvalidArgument,
                fmt::format("A valid join token is necessary to join this cluster: {}", why),
                "bad-join-token");
}

Status removed(std::string_view node_id) {
  return Status(StatusCode::kPermissionDenied,
                fmt::format("node {} was removed from the swarm: leave it with --force, and join "
                            "again",
                            node_id),
                "node-removed");
}

Status check_hostname(std::string_view name) {
  const bool printable =
      std::all_of(name.begin(), name.end(), [](unsigned char c) { return c > ' ' && c < 0x7f; });
  if (name.size() <= kHostnameBytesMax && printable) return ok_status();
  return invalid_argument("the host name is not one");
}

// It is a part of the certificate's subject, where some characters mean something.
Status check_client_name(std::string_view name) {
  const bool plain = std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  });
  if (plain && !name.empty() && name.size() <= kClientNameBytesMax) return ok_status();
  return invalid_argument(
      "invalid name of a client \"{}\": up to {} of a-z, A-Z, 0-9, '.', '_' and '-'",
      name.substr(0, 2 * kClientNameBytesMax), kClientNameBytesMax);
}

Result<store::Ptr<v1::Cluster>> cluster_of(const store::Snapshot& view) {
  auto cluster = view.cluster();
  if (cluster == nullptr || cluster->root_ca().key_pem().empty()) {
    return fail(
        Status(StatusCode::kUnavailable, "this manager does not know its swarm yet", "not-ready"));
  }
  return cluster;
}

security::CertificateRole certificate_role(v1::NodeSpec::Role role) {
  return role == v1::NodeSpec::MANAGER ? security::CertificateRole::kManager
                                       : security::CertificateRole::kWorker;
}

// Whether it is a manager there.
Result<store::Ptr<v1::Node>> manager_in(const store::Snapshot& view, std::string_view node_id) {
  MUSTER_ASSIGN(const auto cluster, cluster_of(view));
  auto node = view.get<v1::Node>(std::string(node_id));
  if (node == nullptr || is_removed(*cluster, node_id)) return fail(removed(node_id));
  if (node->role() != v1::NodeSpec::MANAGER) {
    return fail(permission_denied("node {} is no manager any more", node_id));
  }
  return node;
}

}  // namespace

bool is_removed(const v1::Cluster& cluster, std::string_view node_id) {
  if (fault(ManagerMutant::kRemovedJoins)) return false;
  const auto& nodes = cluster.removed_nodes();
  return std::any_of(nodes.begin(), nodes.end(),
                     [&](const v1::RemovedNode& node) { return node.node_id() == node_id; });
}

Result<v1::NodeSpec::Role> role_of_token(const v1::RootCa& root_ca, std::string_view token) {
  const auto given = security::parse_join_token(token);
  if (!given) {
    return fail(StatusCode::kInvalidArgument, given.error().message(), "bad-join-token");
  }
  const auto worker = security::parse_join_token(root_ca.join_tokens().worker());
  const auto manager = security::parse_join_token(root_ca.join_tokens().manager());
  if (!worker || !manager) return fail(internal_error("the cluster has no join tokens"));
  if (given->root_digest != worker->root_digest) {
    return fail(bad_token("this one is of another swarm, or its root certificate was rotated"));
  }
  // Both, whatever the first says: the time must not tell.
  const bool is_worker = security::same_secret(*given, *worker);
  const bool is_manager = security::same_secret(*given, *manager);
  if (is_manager) return v1::NodeSpec::MANAGER;
  if (is_worker || fault(ManagerMutant::kAnyToken)) return v1::NodeSpec::WORKER;
  return fail(bad_token("this one is wrong, or was rotated"));
}

Result<std::string> node_id_of_request(std::string_view signing_request_pem) {
  if (signing_request_pem.size() > kRequestBytesMax) {
    return fail(invalid_argument("the certificate request is too long"));
  }
  MUSTER_ASSIGN(const std::string digest, security::signing_request_digest(signing_request_pem));
  return security::base36(std::string_view(digest).substr(0, 16), 25);
}

Result<Admission> admit(const store::Snapshot& view, const v1::IssueCertificateRequest& request,
                        std::string_view peer_host) {
  MUSTER_ASSIGN(const auto cluster, cluster_of(view));
  MUSTER_ASSIGN(const v1::NodeSpec::Role role,
                role_of_token(cluster->root_ca(), request.join_token()));
  MUSTER_ASSIGN(const std::string id, node_id_of_request(request.signing_request_pem()));
  if (is_removed(*cluster, id)) return fail(removed(id));
  if (const auto known = view.get<v1::Node>(id)) return Admission{*known, true};

  MUSTER_TRY(check_hostname(request.hostname()));
  if (!v1::NodeSpec::Availability_IsValid(request.availability())) {
    return fail(
        invalid_argument("unknown availability {}", static_cast<int>(request.availability())));
  }
  if (role == v1::NodeSpec::MANAGER && !request.address().empty()) {
    MUSTER_TRY(check_manager_address(request.address()));
  }
  Admission admission;
  v1::Node& node = admission.node;
  node.set_id(id);
  node.set_role(role);
  node.mutable_spec()->set_desired_role(role);
  node.mutable_spec()->set_availability(request.availability());
  node.mutable_description()->set_hostname(request.hostname());
  node.mutable_status()->set_state(v1::NodeStatus::DOWN);
  node.mutable_status()->set_message("has joined; its agent has not connected yet");
  node.mutable_status()->set_address(std::string(peer_host));
  return admission;
}

Result<store::Ptr<v1::Node>> renewing_node(const store::Snapshot& view,
                                           const security::Principal& caller) {
  MUSTER_ASSIGN(const auto cluster, cluster_of(view));
  if (caller.kind != security::Principal::Kind::kNode) {
    return fail(StatusCode::kUnauthenticated,
                "A valid join token is necessary to join this cluster", "bad-join-token");
  }
  if (caller.cluster_id != cluster->id()) {
    return fail(StatusCode::kPermissionDenied,
                fmt::format("node {} belongs to another swarm", caller.node_id), "wrong-cluster");
  }
  auto node = view.get<v1::Node>(caller.node_id);
  if (node == nullptr || is_removed(*cluster, caller.node_id)) {
    return fail(removed(caller.node_id));
  }
  return node;
}

Result<v1::IssueCertificateResponse> issue(const v1::Cluster& cluster, const v1::Node& node,
                                           std::string_view signing_request_pem, WallTime now) {
  if (signing_request_pem.size() > kRequestBytesMax) {
    return fail(invalid_argument("the certificate request is too long"));
  }
  const Signer by = signer(cluster.root_ca());
  Duration validity(cluster.spec().node_cert_expiry_ns());
  if (validity == 0ns) validity = kExpiryDefault;
  v1::IssueCertificateResponse response;
  MUSTER_ASSIGN(std::string certificate,
                security::sign_request(by.root, signing_request_pem,
                                       {node.id(), certificate_role(node.role()), cluster.id()},
                                       now, std::max<Duration>(validity, kExpiryLeast)));
  response.set_certificate_pem(certificate + by.intermediates_pem);
  MUSTER_ASSIGN(*response.mutable_trust_root_pem(), trust_bundle(cluster.root_ca()));
  response.set_node_id(node.id());
  response.set_cluster_id(cluster.id());
  response.set_role(node.role());
  if (node.role() == v1::NodeSpec::MANAGER) response.set_unlock_key(cluster.unlock_key());
  return response;
}

std::string own_signer(const store::Snapshot& view, std::string_view node_id) {
  if (!manager_in(view, node_id)) return {};
  return signer(view.cluster()->root_ca()).root.certificate_pem;
}

Result<v1::IssueCertificateResponse> sign_own(const store::Snapshot& view, std::string_view node_id,
                                              std::string_view signing_request_pem, WallTime now) {
  MUSTER_ASSIGN(const auto node, manager_in(view, node_id));
  MUSTER_ASSIGN(const auto cluster, cluster_of(view));
  return issue(*cluster, *node, signing_request_pem, now);
}

Result<v1::IssueClientCertificateResponse> issue_client(
    const store::Snapshot& view, const v1::IssueClientCertificateRequest& request, WallTime now) {
  MUSTER_ASSIGN(const auto cluster, cluster_of(view));
  MUSTER_TRY(check_client_name(request.name()));
  if (request.signing_request_pem().size() > kRequestBytesMax) {
    return fail(invalid_argument("the certificate request is too long"));
  }
  // Of a key that is strong enough, and the sender's.
  MUSTER_ASSIGN([[maybe_unused]] const std::string key,
                security::signing_request_digest(request.signing_request_pem()));
  const Duration validity =
      request.validity_ns() == 0 ? kClientValidity : Duration(request.validity_ns());
  if (validity < 1min || validity > kClientValidityMost) {
    return fail(invalid_argument("a client's certificate lasts from a minute to {} days",
                                 kClientValidityMost / 24h));
  }
  const Signer by = signer(cluster->root_ca());
  v1::IssueClientCertificateResponse response;
  MUSTER_ASSIGN(
      const std::string certificate,
      security::sign_request(by.root, request.signing_request_pem(),
                             {request.name(), security::CertificateRole::kClient, cluster->id()},
                             now, validity));
  MUSTER_ASSIGN(const auto facts, security::read_certificate(certificate));
  response.set_certificate_pem(certificate + by.intermediates_pem);
  MUSTER_ASSIGN(*response.mutable_trust_root_pem(), trust_bundle(cluster->root_ca()));
  response.set_not_after_ns(facts.not_after.unix_ns);
  return response;
}

Result<v1::TlsInfo> describe_certificate(std::string_view certificate_pem,
                                         std::string_view trust_pem) {
  MUSTER_ASSIGN(const auto facts, security::read_certificate(certificate_pem));
  MUSTER_ASSIGN(const auto issuer, security::read_issuer(certificate_pem, trust_pem));
  v1::TlsInfo tls;
  tls.set_trust_root_pem(std::string(trust_pem));
  tls.set_issuer_subject_der(issuer.subject_der);
  tls.set_issuer_public_key_der(issuer.public_key_der);
  tls.set_not_after_ns(facts.not_after.unix_ns);
  return tls;
}

}  // namespace muster::manager::ca
