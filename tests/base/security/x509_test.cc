#include "base/security/x509.h"

#include <gtest/gtest.h>

#include "base/security/base36.h"
#include "base/security/join_token.h"

namespace muster::security {
namespace {

constexpr WallTime kNow{1'790'000'000'000'000'000};
const CertificateIdentity kManager{"n1", CertificateRole::kManager, "c1"};

class X509 : public ::testing::Test {
 protected:
  CertificateAndKey issue(const CertificateIdentity& identity, Duration validity = 24h * 90) {
    return issue_by(root_, identity, validity);
  }
  static CertificateAndKey issue_by(const CertificateAndKey& root,
                                    const CertificateIdentity& identity,
                                    Duration validity = 24h * 90) {
    CertificateAndKey node;
    node.key_pem = *generate_key();
    const auto request = create_signing_request(node.key_pem);
    node.certificate_pem = *sign_request(root, *request, identity, kNow, validity);
    return node;
  }

  CertificateAndKey root_ = *create_root(kNow);
};

TEST_F(X509, IssuedCertificateCarriesTheSignersIdentity) {
  const auto facts = read_certificate(issue(kManager).certificate_pem);
  ASSERT_TRUE(facts) << facts.error().to_string();
  EXPECT_EQ(facts->identity, kManager);
  EXPECT_EQ((facts->not_after - kNow), 24h * 90);
  EXPECT_EQ((kNow - facts->not_before), 1h);
}

TEST_F(X509, CertificateIsTrustedOnlyByItsRootItsKeyAndItsTime) {
  const auto node = issue(kManager);
  EXPECT_TRUE(
      check_certificate(node.certificate_pem, root_.certificate_pem, node.key_pem, kNow).ok());

  const auto other_root = *create_root(kNow);
  const auto foreign =
      check_certificate(node.certificate_pem, other_root.certificate_pem, node.key_pem, kNow);
  EXPECT_EQ(foreign.code(), StatusCode::kUnauthenticated);

  const auto wrong_key =
      check_certificate(node.certificate_pem, root_.certificate_pem, *generate_key(), kNow);
  EXPECT_EQ(wrong_key.message(), "the certificate does not belong to the key");

  const auto late =
      check_certificate(node.certificate_pem, root_.certificate_pem, node.key_pem, kNow + 24h * 91);
  EXPECT_EQ(late.reason(), "certificate-expired");
  EXPECT_EQ(late.message(), "the certificate expired at 2026-12-20T14:13:20.000000000Z");

  const auto early =
      check_certificate(node.certificate_pem, root_.certificate_pem, node.key_pem, kNow - 2h);
  EXPECT_EQ(early.reason(), "clock-skew");
  EXPECT_NE(early.message().find("the clocks of this host and of its managers differ"),
            std::string::npos)
      << early.message();
}

TEST_F(X509, ValidityEndsWithTheRootsAtTheLatest) {
  const auto facts = read_certificate(issue(kManager, 24h * 365 * 40).certificate_pem);
  EXPECT_EQ((facts->not_after - kNow), 24h * 365 * 20);
}

TEST_F(X509, GarbageIsRefusedInWords) {
  EXPECT_EQ(read_certificate("nonsense").error().message(), "not a PEM certificate");
  EXPECT_EQ(sign_request(root_, "nonsense", kManager, kNow, 1h).error().message(),
            "not a PEM certificate request");
  EXPECT_EQ(read_certificate(root_.certificate_pem).error().message(),
            "the certificate has no role (OU \"\")");
}

// Old root, new root, cross-signed: whoever trusts the old one, the new one or both trusts both
// kinds of certificates as long as it has to.
TEST_F(X509, CrossSigningCarriesTrustFromTheOldRootToTheNew) {
  const auto next = *create_root(kNow);
  const auto cross = cross_sign(next.certificate_pem, root_, kNow);
  ASSERT_TRUE(cross) << cross.error().to_string();
  const auto old_node = issue(kManager);
  const auto new_node = issue_by(next, kManager);
  const std::string chained = new_node.certificate_pem + *cross;
  const std::string both = *make_bundle({root_.certificate_pem, next.certificate_pem});
  struct Case {
    const char* name;
    std::string certificate, trust;
    bool good;
  };
  const Case cases[] = {
      {"old by old", old_node.certificate_pem, root_.certificate_pem, true},
      {"old by both", old_node.certificate_pem, both, true},
      {"old by new", old_node.certificate_pem, next.certificate_pem, false},
      {"chained by old", chained, root_.certificate_pem, true},
      {"chained by both", chained, both, true},
      {"chained by new", chained, next.certificate_pem, true},
      {"bare new by old", new_node.certificate_pem, root_.certificate_pem, false},
      {"bare new by new", new_node.certificate_pem, next.certificate_pem, true},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(check_certificate(c.certificate, c.trust, "", kNow).ok(), c.good) << c.name;
  }
  // The issuer is the new root by whatever way it was found.
  const auto expected = *issuer_of_root(next.certificate_pem);
  EXPECT_EQ(*read_issuer(chained, root_.certificate_pem), expected);
  EXPECT_EQ(*read_issuer(chained, both), expected);
  EXPECT_EQ(*read_issuer(new_node.certificate_pem, both), expected);
  EXPECT_EQ(*read_issuer(old_node.certificate_pem, both), *issuer_of_root(root_.certificate_pem));
  EXPECT_NE(expected.public_key_der, issuer_of_root(root_.certificate_pem)->public_key_der);
  EXPECT_FALSE(read_issuer(old_node.certificate_pem, next.certificate_pem));
}

TEST_F(X509, ACrossSignedCertificateEndsWhenTheFirstOfItsRootsDoes) {
  const auto brief = *create_root(kNow, 10h);
  const auto lasts = [](const CertificateAndKey& next, const CertificateAndKey& old, Duration d) {
    const auto cross = cross_sign(next.certificate_pem, old, kNow);
    // Read as a certificate that some root vouches for at that time.
    return check_certificate(*cross, old.certificate_pem, "", kNow + d).reason();
  };
  EXPECT_EQ(lasts(brief, root_, 9h), "");
  EXPECT_EQ(lasts(brief, root_, 11h), "certificate-expired");
  EXPECT_EQ(lasts(root_, brief, 9h), "");
}

TEST_F(X509, BundlesHoldEachCertificateOnce) {
  const auto next = *create_root(kNow);
  const auto both =
      make_bundle({root_.certificate_pem, next.certificate_pem, root_.certificate_pem});
  ASSERT_TRUE(both);
  EXPECT_EQ(*both, root_.certificate_pem + next.certificate_pem);
  EXPECT_EQ(split_bundle(*both)->size(), 2u);
  EXPECT_FALSE(split_bundle(""));
  EXPECT_FALSE(split_bundle("no certificate"));
  std::string torn = *both;
  torn.resize(torn.size() - 100);
  EXPECT_FALSE(split_bundle(torn));
}

TEST_F(X509, SubjectsAreReadStrictly) {
  const auto good = parse_subject("CN=n1,OU=swarm-manager,O=c1");
  ASSERT_TRUE(good);
  EXPECT_EQ(*good, kManager);
  EXPECT_EQ(parse_subject("CN=n1,OU=swarm-worker,O=c1")->role, CertificateRole::kWorker);
  for (const char* bad :
       {"", "CN=n1", "CN=n1,OU=swarm-manager",
        "CN=n1,OU=swarm-manager,O=", "CN=,OU=swarm-manager,O=c", "CN=n1,OU=root,O=c1",
        "OU=swarm-manager,CN=n1,O=c1", "CN=n1,OU=swarm-manager,O=c1,C=DE",
        "CN=n1\\,x,OU=swarm-manager,O=c1", "CN=n1+OU=swarm-manager,O=c1",
        "CN=n1,OU=swarm-worker,OU=swarm-manager,O=c1", " CN=n1,OU=swarm-manager,O=c1"}) {
    EXPECT_FALSE(parse_subject(bad)) << bad;
  }
}

TEST_F(X509, RequestsOfOneKeyHaveOneDigest) {
  const std::string key = *generate_key();
  const auto digest = signing_request_digest(*create_signing_request(key));
  ASSERT_TRUE(digest);
  EXPECT_EQ(digest->size(), 32u);
  EXPECT_EQ(*signing_request_digest(*create_signing_request(key)), *digest);
  EXPECT_NE(*signing_request_digest(*create_signing_request(*generate_key())), *digest);
  EXPECT_FALSE(signing_request_digest("nonsense"));
}

TEST_F(X509, AnEndedRootSignsNothing) {
  const auto short_root = *create_root(kNow, 10h);
  const auto request = *create_signing_request(*generate_key());
  EXPECT_TRUE(sign_request(short_root, request, kManager, kNow + 9h, 1h));
  const auto late = sign_request(short_root, request, kManager, kNow + 10h, 1h);
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().reason(), "certificate-expired");
}

TEST(Base36, IsABigEndianNumberPaddedWithZeros) {
  EXPECT_EQ(base36(std::string_view("\x00", 1), 3), "000");
  EXPECT_EQ(base36(std::string_view("\x23", 1), 1), "z");
  EXPECT_EQ(base36(std::string_view("\x01\x00", 2), 4), "0074");
  EXPECT_EQ(base36(std::string_view("\xff\xff\xff\xff", 4), 0), "1z141z3");
}

TEST_F(X509, JoinTokenPinsTheRoot) {
  const auto token = create_join_token(root_.certificate_pem);
  ASSERT_TRUE(token);
  EXPECT_EQ(token->root_digest, *certificate_digest(root_.certificate_pem));
  const auto parsed = parse_join_token(token->str());
  ASSERT_TRUE(parsed);
  EXPECT_TRUE(same_secret(*parsed, *token));
  EXPECT_FALSE(same_secret(*parsed, *create_join_token(root_.certificate_pem)));
}

TEST_F(X509, JoinTokenParsingIsStrict) {
  const std::string good = create_join_token(root_.certificate_pem)->str();
  for (const std::string& bad : {std::string(), good + "0", good.substr(1),
                                 "SWMTKN-2-" + good.substr(9), good + "-x", good.substr(0, 20)}) {
    EXPECT_FALSE(parse_join_token(bad)) << bad;
  }
}

}  // namespace
}  // namespace muster::security
