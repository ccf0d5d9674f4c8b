#include "base/crc32c.h"

#include <gtest/gtest.h>

#include <string>

namespace muster {
namespace {

TEST(Crc32c, IsTheOneOfTheStandard) {
  EXPECT_EQ(crc32c("123456789"), 0xe3069283U);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aaU);  // RFC 3720, B.4
  EXPECT_EQ(crc32c(""), 0U);
  for (size_t size = 0; size < 70; ++size) {
    const std::string bytes(size, static_cast<char>(0x80 + size));
    EXPECT_EQ(crc32c(bytes), crc32c_by_table(bytes));
  }
}

}  // namespace
}  // namespace muster
