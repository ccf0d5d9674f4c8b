#include "deploy/daemon/identity_plan.h"

#include <algorithm>

#include "base/security/x509.h"
#include "manager/ca/admission.h"

namespace muster::daemon {
namespace {

// Clocks and rounding; what is longer than wanted by so little stays.
constexpr Duration kLifetimeSlack = 1min;
constexpr Duration kOwnAgain = 1s;

}  // namespace

IdentityPlan plan_identity(const security::TlsIdentity::Current& current,
                           const v1::ClusterFeed& feed) {
  IdentityPlan plan;
  const security::NodeCredentials& credentials = current.credentials;
  if (!feed.trust_root_pem().empty() && feed.trust_root_pem() != credentials.root_pem) {
    plan.trust_root_pem = feed.trust_root_pem();
  }
  if (!feed.issuer_public_key_der().empty() &&
      feed.issuer_public_key_der() != current.issuer.public_key_der) {
    plan.renewal = IdentityPlan::Renewal::kSpread;
    plan.why = "the swarm's root is rotated";
  }
  const Duration wanted(feed.node_cert_expiry_ns());
  const Duration lifetime = current.facts.not_after - current.facts.not_before;
  if (wanted > Duration::zero() && lifetime > wanted + security::kBackdate + kLifetimeSlack) {
    plan.renewal = IdentityPlan::Renewal::kSpread;
    plan.why = "certificates end sooner now";
  }
  if (feed.has_self()) {
    const bool manager = current.facts.identity.role == security::CertificateRole::kManager;
    if (manager != (feed.self().role() == v1::NodeSpec::MANAGER)) {
      plan.renewal = IdentityPlan::Renewal::kNow;
      plan.why = manager ? "the node becomes a worker" : "the node becomes a manager";
    }
  }
  return plan;
}

Duration wait_after(const Status& own, Duration usual) {
  return own.code() == StatusCode::kUnavailable ? std::min(usual, kOwnAgain) : usual;
}

v1::TlsInfo describe_identity(const security::TlsIdentity::Current& current) {
  auto described = manager::ca::describe_certificate(current.credentials.node.certificate_pem,
                                                     current.credentials.root_pem);
  return described ? *std::move(described) : v1::TlsInfo();
}

}  // namespace muster::daemon
