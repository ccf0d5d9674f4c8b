#include "base/security/x509.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

#include "base/file.h"
#include "base/rng.h"
#include "base/security/base36.h"
#include "base/security/join_token.h"
#include "base/security/key_files.h"

namespace muster::security {
namespace {

constexpr WallTime kNow{1'790'000'000'000'000'000};
const CertificateIdentity kManager{"n1", CertificateRole::kManager, "c1"};

class X509 : public ::testing::Test {
 protected:
  CertificateAndKey issue(const CertificateIdentity& identity, Duration validity = 24h * 90) {
    CertificateAndKey node;
    node.key_pem = *generate_key();
    const auto request = create_signing_request(node.key_pem);
    node.certificate_pem = *sign_request(root_, *request, identity, kNow, validity);
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
  EXPECT_EQ(late.message(), "bad certificate: certificate has expired");
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

TEST_F(X509, CredentialsAreSwappedAsAPairAndTheKeyIsPrivate) {
  SystemRng rng;
  const auto dir = std::filesystem::temp_directory_path() / ("muster-keys-" + rng.id());
  EXPECT_EQ(load_credentials(dir).error().code(), StatusCode::kNotFound);
  for (int round = 0; round < 2; ++round) {
    const NodeCredentials saved{root_.certificate_pem, issue(kManager)};
    ASSERT_TRUE(save_credentials(dir, saved).ok());
    const auto loaded = load_credentials(dir);
    ASSERT_TRUE(loaded);
    EXPECT_EQ(loaded->node.certificate_pem, saved.node.certificate_pem);
    EXPECT_EQ(loaded->node.key_pem, saved.node.key_pem);
  }
  struct stat info {};
  ASSERT_EQ(stat((dir / "current/node.key").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  // The generation before is gone: the link and one directory are left.
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir), {}), 2);
  std::filesystem::remove_all(dir);
}

}  // namespace
}  // namespace muster::security
