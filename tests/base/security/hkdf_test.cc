#include "base/security/hkdf.h"

#include <gtest/gtest.h>

namespace muster::security {
namespace {

std::string hex(const std::string& bytes) {
  std::string out;
  for (const unsigned char byte : bytes) out += fmt::format("{:02x}", byte);
  return out;
}

// RFC 5869, A.3: no salt, no info.
TEST(HkdfTest, GivesWhatTheStandardSays) {
  const auto out = hkdf_sha256(std::string(22, '\x0b'), "", 42);
  ASSERT_TRUE(out) << out.error().message();
  EXPECT_EQ(hex(*out),
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"
            "9d201395faa4b61a96c8");
}

TEST(HkdfTest, AnotherPurposeOrSecretGivesOtherBytes) {
  const std::string secret(32, 's');
  const auto one = hkdf_sha256(secret, "one", 32);
  EXPECT_EQ(*one, *hkdf_sha256(secret, "one", 32));
  EXPECT_NE(*one, *hkdf_sha256(secret, "two", 32));
  EXPECT_NE(*one, *hkdf_sha256(std::string(32, 't'), "one", 32));
}

}  // namespace
}  // namespace muster::security
