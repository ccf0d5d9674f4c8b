#include "deploy/cli/listing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <boost/json/parse.hpp>

namespace muster::deploy::cli {
namespace {

Listing two_rows() {
  Listing listing({{"ID", "ID"}, {"Name", "NAME"}, {"Hidden", "HIDDEN", false}});
  listing.add({"1", "a-rather-long-name", "x"});
  listing.add({"2", "b", "y"});
  return listing;
}

TEST(Listing, TableAlignsColumnsAsDocker) {
  EXPECT_EQ(*two_rows().render(""),
            "ID        NAME\n"
            "1         a-rather-long-name\n"
            "2         b\n");
  EXPECT_EQ(*two_rows().render("table {{.Name}}\\t{{.Hidden}}"),
            "NAME                 HIDDEN\n"
            "a-rather-long-name   x\n"
            "b                    y\n");
}

TEST(Listing, TemplatesJsonAndQuiet) {
  EXPECT_EQ(*two_rows().render("{{.ID}}:{{upper .Name}}"), "1:A-RATHER-LONG-NAME\n2:B\n");
  EXPECT_EQ(*two_rows().render("", true), "1\n2\n");
  EXPECT_EQ(*two_rows().render("json"),
            "{\"ID\":\"1\",\"Name\":\"a-rather-long-name\",\"Hidden\":\"x\"}\n"
            "{\"ID\":\"2\",\"Name\":\"b\",\"Hidden\":\"y\"}\n");
  EXPECT_FALSE(two_rows().render("{{.Nothing}}"));
}

TEST(Listing, NaturalOrder) {
  const char* sorted[] = {"a", "A2", "a10", "b", "web.2", "web.10", "web.010x"};
  for (size_t i = 0; i + 1 < std::size(sorted); ++i) {
    EXPECT_TRUE(natural_less(sorted[i], sorted[i + 1])) << sorted[i];
    EXPECT_FALSE(natural_less(sorted[i + 1], sorted[i])) << sorted[i];
  }
}

TEST(Listing, PrettyJson) {
  const auto value = boost::json::parse(R"({"a":[1,{"b":"x\"y"}],"c":{},"d":[]})");
  EXPECT_EQ(pretty_json(value),
            "{\n    \"a\": [\n        1,\n        {\n            \"b\": \"x\\\"y\"\n        }\n"
            "    ],\n    \"c\": {},\n    \"d\": []\n}\n");
}

TEST(Listing, Sizes) {
  EXPECT_EQ(human_size(0), "0B");
  EXPECT_EQ(human_size(1'234'567), "1.235MB");
  EXPECT_EQ(binary_size(1536), "1.5KiB");
}

TEST(Listing, Filters) {
  Filters filters;
  EXPECT_TRUE(filters.add("name=web").ok());
  EXPECT_FALSE(filters.add("name").ok());
  EXPECT_TRUE(filters.prefixes("name", "web2"));
  EXPECT_FALSE(filters.equals("name", "web2"));
  EXPECT_TRUE(filters.equals("id", "anything"));
  EXPECT_EQ(filters.check({"id"}).reason(), "usage");
}

}  // namespace
}  // namespace muster::deploy::cli
