#include "overlay/dataplane/esp/esp_probe.h"

#include <gtest/gtest.h>

#include <vector>

namespace muster::overlay {
namespace {

TEST(EncryptionProbeTest, IsAskedUntilItCan) {
  std::vector<bool> asked;
  std::string why = "no module esp4";
  EncryptionProbe probe([&](bool v6) {
    asked.push_back(v6);
    return why;
  });
  EXPECT_EQ(probe.trouble(false), "no module esp4");
  why = "no module gcm";
  EXPECT_EQ(probe.trouble(false), "no module gcm");
  why.clear();
  EXPECT_EQ(probe.trouble(false), "");
  why = "it is not asked any more";
  EXPECT_EQ(probe.trouble(false), "");
  EXPECT_EQ(asked, std::vector<bool>(3, false));
  // The other family is another matter.
  EXPECT_EQ(probe.trouble(true), why);
}

}  // namespace
}  // namespace muster::overlay
