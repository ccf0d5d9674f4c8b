#include "overlay/dataplane/kernel/nft_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "overlay/dataplane/kernel/nft.h"
#include "tests/overlay/dataplane/sandbox.h"

namespace muster::overlay::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

NftTable table_of(const std::string& contents) {
  return {"inet", "t",
          "add table inet t\ndelete table inet t\nadd table inet t\n"
          "add map inet t ports { type inet_service : verdict; }\n"
          "add chain inet t in { type filter hook input priority 0; policy accept; }\n"
          "add rule inet t in tcp dport vmap @ports\n",
          [](std::string_view name) { return name.starts_with("c_"); }, contents};
}

TEST(KeepTable, WhatItLeadsIsThereFromTheFirstMomentAndNoPartOfIt) {
  Sandbox box;
  ASSERT_TRUE(box.ok()) << box.error();
  auto nft = LibNft::make();
  ASSERT_TRUE(nft) << nft.error().message();
  const NftTable one =
      table_of("add chain inet t c_1\nadd element inet t ports { 80 : goto c_1 }\n");
  // The listing is the first one after the table was made.
  auto kept = keep_table(**nft, one);
  ASSERT_TRUE(kept) << kept.error().message();
  EXPECT_TRUE(kept->made);
  EXPECT_THAT(kept->listing, HasSubstr("[80, {\"goto\": {\"target\": \"c_1\"}}]"));
  // Others come and go.
  box.run("", "nft add chain inet t c_2; nft add element inet t ports '{ 81 : goto c_2 }'");
  kept = keep_table(**nft, one);
  ASSERT_TRUE(kept);
  EXPECT_FALSE(kept->made);
  EXPECT_THAT(kept->listing, HasSubstr("c_2"));
  box.run("", "nft flush chain inet t in");
  kept = keep_table(**nft, one);
  ASSERT_TRUE(kept);
  EXPECT_TRUE(kept->made);
  EXPECT_THAT(kept->listing, HasSubstr("[80, {\"goto\": {\"target\": \"c_1\"}}]"));
  EXPECT_THAT(kept->listing, Not(HasSubstr("c_2")));
  // The rules are there all the same.
  box.run("", "nft flush chain inet t in");
  kept = keep_table(**nft, table_of("add element inet t nothing { 80 }\n"));
  ASSERT_TRUE(kept);
  EXPECT_TRUE(kept->made);
  EXPECT_THAT(box.run("", "nft list chain inet t in"), HasSubstr("vmap @ports"));
}

}  // namespace
}  // namespace muster::overlay::testing
