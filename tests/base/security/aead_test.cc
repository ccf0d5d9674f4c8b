#include "base/security/aead.h"

#include <gtest/gtest.h>

#include <string>

namespace muster::security {
namespace {

std::string hex(std::string_view text) {
  std::string out;
  for (size_t i = 0; i + 1 < text.size(); i += 2) {
    out.push_back(static_cast<char>(std::stoi(std::string(text.substr(i, 2)), nullptr, 16)));
  }
  return out;
}

struct Vector {
  const char* name;
  const char* key;
  const char* nonce;
  const char* plain;
  const char* aad;
  const char* cipher;
  const char* tag;
};
class AeadVectors : public testing::TestWithParam<Vector> {};

// Test cases 13 to 16 of McGrew and Viega, "The Galois/Counter Mode of Operation", appendix B.
TEST_P(AeadVectors, SealAndOpen) {
  const Vector& v = GetParam();
  const auto aead = Aead::create(hex(v.key));
  ASSERT_TRUE(aead.has_value());
  const auto sealed = aead->seal_with_nonce(hex(v.plain), hex(v.aad), hex(v.nonce));
  ASSERT_TRUE(sealed.has_value());
  EXPECT_EQ(*sealed, hex(v.nonce) + hex(v.cipher) + hex(v.tag));
  EXPECT_EQ(*aead->open(*sealed, hex(v.aad)), hex(v.plain));
}

constexpr char kZeroKey[] = "0000000000000000000000000000000000000000000000000000000000000000";
constexpr char kKey[] = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308";
INSTANTIATE_TEST_SUITE_P(
    Gcm256, AeadVectors,
    testing::Values(
        Vector{"Case13", kZeroKey, "000000000000000000000000", "", "", "",
               "530f8afbc74536b9a963b4f1c4cb738b"},
        Vector{"Case14", kZeroKey, "000000000000000000000000", "00000000000000000000000000000000",
               "", "cea7403d4d606b6e074ec5d3baf39d18", "d0d1c8a799996bf0265b98b5d48ab919"},
        Vector{
            "Case16", kKey, "cafebabefacedbaddecaf888",
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf"
            "0e2449a6b525b16aedf5aa0de657ba637b39",
            "feedfacedeadbeeffeedfacedeadbeefabaddad2",
            "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b0"
            "8b1056828838c5f61e6393ba7a0abcc9f662",
            "76fc6ece0f4e1768cddf8853bb2d551b"}),
    [](const auto& info) { return info.param.name; });

TEST(Aead, EveryFlippedBitIsNoticed) {
  const auto aead = Aead::create(Aead::random_key());
  const std::string sealed = *aead->seal("some text", "context");
  for (size_t bit = 0; bit < sealed.size() * 8; ++bit) {
    std::string bad = sealed;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
    const auto opened = aead->open(bad, "context");
    ASSERT_FALSE(opened.has_value()) << bit;
    EXPECT_EQ(opened.error().code(), StatusCode::kDataLoss);
  }
  EXPECT_FALSE(aead->open(sealed, "other context").has_value());
  EXPECT_FALSE(aead->open(sealed.substr(0, 20), "context").has_value());
  EXPECT_FALSE(Aead::create(Aead::random_key())->open(sealed, "context").has_value());
}

TEST(Aead, NoncesDifferAndKeysHaveOneLength) {
  const auto aead = Aead::create(Aead::random_key());
  EXPECT_NE(*aead->seal("x", ""), *aead->seal("x", ""));
  EXPECT_EQ(*aead->open(*aead->seal("", ""), ""), "");
  EXPECT_EQ(Aead::create("short").error().code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace muster::security
