#include "deploy/daemon/identity_plan.h"

#include <gtest/gtest.h>

namespace muster::daemon {
namespace {

using Renewal = IdentityPlan::Renewal;
using security::CertificateRole;

const WallTime kNow{1'700'000'000'000'000'000};

security::CertificateAndKey root() {
  static const security::CertificateAndKey kRoot = *security::create_root(kNow);
  return kRoot;
}

std::shared_ptr<const security::TlsIdentity::Current> node(CertificateRole role) {
  security::NodeCredentials credentials;
  credentials.root_pem = root().certificate_pem;
  credentials.node.key_pem = *security::generate_key();
  credentials.node.certificate_pem =
      *security::sign_request(root(), *security::create_signing_request(credentials.node.key_pem),
                              {"n1", role, "c1"}, kNow, 24h);
  return (*security::TlsIdentity::create(credentials))->current();
}

v1::ClusterFeed feed(v1::NodeSpec::Role role) {
  v1::ClusterFeed out;
  out.mutable_self()->set_role(role);
  out.set_trust_root_pem(root().certificate_pem);
  out.set_issuer_public_key_der(security::issuer_of_root(root().certificate_pem)->public_key_der);
  return out;
}

TEST(IdentityPlan, NothingWhileAllIsAsItShouldBe) {
  EXPECT_EQ(plan_identity(*node(CertificateRole::kWorker), feed(v1::NodeSpec::WORKER)),
            IdentityPlan());
  EXPECT_EQ(plan_identity(*node(CertificateRole::kManager), feed(v1::NodeSpec::MANAGER)),
            IdentityPlan());
  // A feed of an older manager says nothing of all this.
  EXPECT_EQ(plan_identity(*node(CertificateRole::kManager), {}), IdentityPlan());
}

TEST(IdentityPlan, AnotherRoleIsAnotherCertificateAtOnce) {
  EXPECT_EQ(plan_identity(*node(CertificateRole::kWorker), feed(v1::NodeSpec::MANAGER)).renewal,
            Renewal::kNow);
  EXPECT_EQ(plan_identity(*node(CertificateRole::kManager), feed(v1::NodeSpec::WORKER)).renewal,
            Renewal::kNow);
}

TEST(IdentityPlan, AnotherIssuerIsAnotherCertificateForEverybody) {
  v1::ClusterFeed rotating = feed(v1::NodeSpec::WORKER);
  const auto next = *security::create_root(kNow);
  rotating.set_issuer_public_key_der(
      security::issuer_of_root(next.certificate_pem)->public_key_der);
  rotating.set_trust_root_pem(root().certificate_pem + next.certificate_pem);
  const IdentityPlan plan = plan_identity(*node(CertificateRole::kWorker), rotating);
  EXPECT_EQ(plan.renewal, Renewal::kSpread);
  EXPECT_EQ(plan.trust_root_pem, rotating.trust_root_pem());
}

TEST(IdentityPlan, CertificatesThatEndTooLateAreReplaced) {
  v1::ClusterFeed shorter = feed(v1::NodeSpec::WORKER);
  for (const auto& [expiry, renewal] :
       {std::pair{Duration(23h), Renewal::kSpread}, std::pair{Duration(24h), Renewal::kNone},
        std::pair{Duration(48h), Renewal::kNone}}) {
    shorter.set_node_cert_expiry_ns(expiry.count());
    EXPECT_EQ(plan_identity(*node(CertificateRole::kWorker), shorter).renewal, renewal);
  }
}

TEST(IdentityPlan, TheRoleComesBeforeTheRoot) {
  v1::ClusterFeed both = feed(v1::NodeSpec::MANAGER);
  both.set_issuer_public_key_der("another");
  EXPECT_EQ(plan_identity(*node(CertificateRole::kWorker), both).renewal, Renewal::kNow);
}

TEST(IdentityPlan, OnlyWhatIsMissingForAMomentIsTriedAgainAtOnce) {
  EXPECT_EQ(wait_after(unavailable("its log is not open"), 80s), 1s);
  EXPECT_EQ(wait_after(unavailable("its log is not open"), 200ms), 200ms);
  for (const Status& own : {permission_denied("it was removed"), not_found("no such node"),
                            failed_precondition("it is no manager"), internal_error("broken")}) {
    EXPECT_EQ(wait_after(own, 80s), 80s) << own.message();
  }
}

}  // namespace
}  // namespace muster::daemon
