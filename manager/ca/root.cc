#include "manager/ca/root.h"

#include <algorithm>
#include <functional>

#include "base/security/join_token.h"
#include "manager/mutant.h"

namespace muster::manager::ca {
namespace {

security::CertificateAndKey present_root(const v1::RootCa& root_ca) {
  return {root_ca.certificate_pem(), root_ca.key_pem()};
}

Status set_join_tokens(v1::RootCa& root_ca) {
  MUSTER_ASSIGN(*root_ca.mutable_join_tokens()->mutable_worker(), new_join_token(root_ca));
  MUSTER_ASSIGN(*root_ca.mutable_join_tokens()->mutable_manager(), new_join_token(root_ca));
  return ok_status();
}

// Of a rotation that is under way; `visit` returns false to stop.
void each_to_renew(const store::Snapshot& view, const std::function<bool(const v1::Node&)>& visit) {
  const auto cluster = view.cluster();
  if (cluster == nullptr || !cluster->root_ca().has_rotation()) return;
  const auto issuer = wanted_issuer(cluster->root_ca());
  view.each<v1::Node>([&](const store::Ptr<v1::Node>& node) {
    const v1::TlsInfo& tls = node->description().tls();
    const bool renewed = issuer && tls.issuer_public_key_der() == issuer->public_key_der;
    return renewed || visit(*node);
  });
}

}  // namespace

Result<security::CertificateAndKey> choose_root(std::string_view certificate_pem,
                                                std::string_view key_pem, WallTime now) {
  if (certificate_pem.empty() && key_pem.empty()) return security::create_root(now);
  if (certificate_pem.empty()) {
    return fail(invalid_argument("a CA key is of no use without the CA certificate"));
  }
  if (key_pem.empty()) {
    return fail(invalid_argument("a CA certificate needs its key: managers sign with it"));
  }
  return security::import_root(certificate_pem, key_pem, now);
}

Result<v1::RootCa> make_root_ca(const security::CertificateAndKey& root) {
  v1::RootCa root_ca;
  root_ca.set_certificate_pem(root.certificate_pem);
  root_ca.set_key_pem(root.key_pem);
  MUSTER_ASSIGN(*root_ca.mutable_certificate_digest(),
                security::certificate_digest(root.certificate_pem));
  MUSTER_TRY(set_join_tokens(root_ca));
  return root_ca;
}

Result<std::string> new_join_token(const v1::RootCa& root_ca) {
  if (root_ca.certificate_pem().empty()) {
    return fail(failed_precondition("the cluster has no root certificate"));
  }
  MUSTER_ASSIGN(const auto token, security::create_join_token(root_ca.certificate_pem()));
  return token.str();
}

Status begin_rotation(v1::Cluster& cluster, const v1::RotateRoot& request, WallTime now) {
  v1::RootCa& root_ca = *cluster.mutable_root_ca();
  if (root_ca.certificate_pem().empty() || root_ca.key_pem().empty()) {
    return failed_precondition("the cluster has no root to rotate");
  }
  MUSTER_ASSIGN(const security::CertificateAndKey next,
                choose_root(request.certificate_pem(), request.key_pem(), now));
  MUSTER_ASSIGN(const std::string next_digest, security::certificate_digest(next.certificate_pem));
  MUSTER_ASSIGN(const std::string digest, security::certificate_digest(root_ca.certificate_pem()));
  if (next_digest == digest) {
    // Nodes that have certificates of the other root renew once more; those are vouched for by the
    // cross-signed certificate behind them until then.
    if (!root_ca.has_rotation()) {
      return failed_precondition("this is the swarm's root certificate already");
    }
    root_ca.clear_rotation();
  } else {
    v1::RootRotation rotation;
    rotation.set_certificate_pem(next.certificate_pem);
    rotation.set_key_pem(next.key_pem);
    MUSTER_ASSIGN(*rotation.mutable_cross_signed_pem(),
                  security::cross_sign(next.certificate_pem, present_root(root_ca), now));
    *root_ca.mutable_rotation() = std::move(rotation);
  }
  root_ca.set_last_forced_rotation(root_ca.last_forced_rotation() + 1);
  return ok_status();
}

Signer signer(const v1::RootCa& root_ca) {
  if (!root_ca.has_rotation()) return {present_root(root_ca), {}};
  const v1::RootRotation& next = root_ca.rotation();
  return {{next.certificate_pem(), next.key_pem()}, next.cross_signed_pem()};
}

Result<std::string> trust_bundle(const v1::RootCa& root_ca) {
  if (!root_ca.has_rotation()) return security::make_bundle({root_ca.certificate_pem()});
  return security::make_bundle({root_ca.certificate_pem(), root_ca.rotation().certificate_pem()});
}

Result<security::CertificateIssuer> wanted_issuer(const v1::RootCa& root_ca) {
  return security::issuer_of_root(root_ca.has_rotation() ? root_ca.rotation().certificate_pem()
                                                         : root_ca.certificate_pem());
}

std::vector<std::string> nodes_to_renew(const store::Snapshot& view) {
  std::vector<std::string> names;
  each_to_renew(view, [&](const v1::Node& node) {
    const std::string& hostname = node.description().hostname();
    names.push_back(hostname.empty() ? node.id() : hostname);
    return true;
  });
  std::sort(names.begin(), names.end());
  return names;
}

bool may_finish_rotation(const store::Snapshot& view) {
  const auto cluster = view.cluster();
  if (cluster == nullptr || !cluster->root_ca().has_rotation()) return false;
  if (fault(ManagerMutant::kRotationEndsEarly)) return true;
  bool may = true;
  each_to_renew(view, [&](const v1::Node&) { return may = false; });
  return may;
}

Status finish_rotation(v1::RootCa& root_ca) {
  if (!root_ca.has_rotation()) return ok_status();
  const v1::RootRotation next = root_ca.rotation();
  root_ca.set_certificate_pem(next.certificate_pem());
  root_ca.set_key_pem(next.key_pem());
  MUSTER_ASSIGN(*root_ca.mutable_certificate_digest(),
                security::certificate_digest(next.certificate_pem()));
  root_ca.clear_rotation();
  return set_join_tokens(root_ca);
}

}  // namespace muster::manager::ca
