#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>

#include "base/file.h"
#include "base/process.h"
#include "base/rng.h"
#include "base/security/x509.h"

namespace muster::security {
namespace {

// Roots as people make them: with openssl's own command.
class ImportRoot : public testing::Test {
 protected:
  ImportRoot() { std::filesystem::create_directories(dir_); }
  ~ImportRoot() override { std::filesystem::remove_all(dir_); }

  void openssl(std::vector<std::string> arguments) const {
    ProcessOptions options;
    options.argv = {"openssl"};
    options.argv.insert(options.argv.end(), arguments.begin(), arguments.end());
    options.working_dir = dir_.string();
    const auto run = run_process(options);
    ASSERT_TRUE(run) << run.error().to_string();
    ASSERT_TRUE(run->exit.success()) << run->err;
  }
  // A self-signed certificate by `openssl req -x509`, with a key of the kind `newkey`.
  CertificateAndKey made(std::vector<std::string> newkey,
                         std::vector<std::string> more = {}) const {
    std::vector<std::string> arguments = {
        "req",     "-x509",  "-nodes", "-subj", "/CN=Example Root",
        "-keyout", "ca.key", "-out",   "ca.crt"};
    arguments.insert(arguments.end(), newkey.begin(), newkey.end());
    arguments.insert(arguments.end(), more.begin(), more.end());
    openssl(arguments);
    return {*read_file(dir_ / "ca.crt"), *read_file(dir_ / "ca.key")};
  }
  static std::string refusal(const std::string& certificate, const std::string& key, WallTime now) {
    const auto imported = import_root(certificate, key, now);
    return imported ? "accepted" : imported.error().message();
  }
  static WallTime middle(const CertificateAndKey&) {
    // A day after its making, of the 30 that openssl gives.
    const auto since = std::chrono::system_clock::now().time_since_epoch();
    return {std::chrono::duration_cast<Duration>(since).count() + Duration(24h).count()};
  }

  const std::filesystem::path dir_ =
      std::filesystem::temp_directory_path() / ("muster-root-" + SystemRng().id());
  const std::vector<std::string> ec_{"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"};
};

TEST_F(ImportRoot, RootsOfOthersSignAndCrossSign) {
  for (const auto& kind :
       {ec_, {"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"}, {"-newkey", "rsa:2048"}}) {
    const auto given = made(kind);
    const WallTime now = middle(given);
    const auto root = import_root(given.certificate_pem, given.key_pem, now);
    ASSERT_TRUE(root) << root.error().to_string();
    const std::string key = *generate_key();
    const auto certificate = sign_request(*root, *create_signing_request(key),
                                          {"n1", CertificateRole::kManager, "c1"}, now, 24h);
    ASSERT_TRUE(certificate) << certificate.error().to_string();
    EXPECT_TRUE(check_certificate(*certificate, root->certificate_pem, key, now).ok());

    const auto old = *create_root(now);
    const auto cross = cross_sign(root->certificate_pem, old, now);
    ASSERT_TRUE(cross) << cross.error().to_string();
    EXPECT_TRUE(check_certificate(*certificate + *cross, old.certificate_pem, key, now).ok());
    const auto back = cross_sign(old.certificate_pem, *root, now);
    ASSERT_TRUE(back) << back.error().to_string();
    const auto renewed = sign_request(old, *create_signing_request(key),
                                      {"n1", CertificateRole::kManager, "c1"}, now, 24h);
    EXPECT_TRUE(check_certificate(*renewed + *back, root->certificate_pem, key, now).ok());
  }
}

TEST_F(ImportRoot, RefusalsSayWhatIsWrong) {
  const auto good = made(ec_);
  const WallTime now = middle(good);
  EXPECT_EQ(refusal(good.certificate_pem, good.key_pem, now), "accepted");
  EXPECT_EQ(refusal("", good.key_pem, now), "not a PEM certificate");
  EXPECT_EQ(refusal(good.certificate_pem, "", now), "not a PEM private key");
  EXPECT_EQ(refusal(good.key_pem, good.certificate_pem, now), "not a PEM certificate");
  EXPECT_EQ(refusal(good.certificate_pem, *generate_key(), now),
            "the key does not belong to the root certificate");
  EXPECT_EQ(refusal(good.certificate_pem + good.certificate_pem, good.key_pem, now),
            "the root certificate file holds 2 certificates: give the root alone");
  EXPECT_TRUE(refusal(good.certificate_pem, good.key_pem, now + 24h * 60)
                  .starts_with("the root certificate expired at "));
  EXPECT_TRUE(refusal(good.certificate_pem, good.key_pem, now - 24h * 60)
                  .starts_with("the root certificate is not valid before "));

  openssl({"ec", "-in", "ca.key", "-aes128", "-passout", "pass:word", "-out", "locked.key"});
  EXPECT_EQ(refusal(good.certificate_pem, *read_file(dir_ / "locked.key"), now),
            "the private key is encrypted with a passphrase");

  const auto leaf = made(ec_, {"-addext", "basicConstraints=critical,CA:FALSE"});
  EXPECT_EQ(refusal(leaf.certificate_pem, leaf.key_pem, now),
            "the root certificate is not one of a CA (basic constraints CA:TRUE)");
  const auto mute = made(ec_, {"-addext", "keyUsage=digitalSignature"});
  EXPECT_EQ(refusal(mute.certificate_pem, mute.key_pem, now),
            "the root certificate may not sign certificates (its key usage lacks keyCertSign)");
  const auto narrow = made(ec_, {"-addext", "basicConstraints=critical,CA:TRUE,pathlen:0"});
  EXPECT_EQ(refusal(narrow.certificate_pem, narrow.key_pem, now),
            "the root certificate has a path length of 0, which leaves no room to rotate it");
  const auto bare =
      made(ec_, {"-addext", "subjectKeyIdentifier=none", "-addext", "authorityKeyIdentifier=none"});
  EXPECT_EQ(refusal(bare.certificate_pem, bare.key_pem, now),
            "the root certificate has no subject key identifier");
  const auto weak = made({"-newkey", "rsa:1024"});
  EXPECT_EQ(refusal(weak.certificate_pem, weak.key_pem, now),
            "the root certificate: the key is too weak: RSA with 1024 bits; 2048 are the least");
  const auto odd = made({"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"});
  EXPECT_EQ(
      refusal(odd.certificate_pem, odd.key_pem, now),
      "the root certificate: the key is on the curve secp256k1; P-256, P-384 or P-521 is needed");
  const auto other = made({"-newkey", "ed25519"});
  EXPECT_EQ(refusal(other.certificate_pem, other.key_pem, now),
            "the root certificate: the key is neither ECDSA (P-256, P-384, P-521) nor RSA");

  // An intermediate is a CA, but nobody's root.
  const auto root = *create_root(now);
  const auto inner = *create_root(now);
  EXPECT_EQ(refusal(*cross_sign(inner.certificate_pem, root, now), inner.key_pem, now),
            "the root certificate is not self-signed: give the root itself, not an intermediate");
}

}  // namespace
}  // namespace muster::security
