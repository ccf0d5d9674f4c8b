// docs/compose.md says of every key what becomes of it.

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <string>

#include "deploy/compose/schema.h"

namespace muster::deploy::compose {
namespace {

TEST(Docs, NameEveryKeyOfTheGrammar) {
  std::ifstream in("docs/compose.md");
  const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  ASSERT_FALSE(text.empty());
  // Alone, as part of a path, or with a value.
  constexpr char kBefore[] = {'`', '.'};
  constexpr char kBehind[] = {'`', '.', ':'};
  for (const SchemaRule& rule : schema_rules()) {
    const std::string_view path = rule.path;
    // Words inside of what a row says as a whole.
    if (path.find(".credential_spec.") != std::string_view::npos) continue;
    if (path.find("discrete_resource_spec") != std::string_view::npos) continue;
    const std::string key(path.substr(path.rfind('.') + 1));
    if (key == "*" || key == "[]") continue;
    const bool named = std::any_of(std::begin(kBefore), std::end(kBefore), [&](char before) {
      return std::any_of(std::begin(kBehind), std::end(kBehind), [&](char behind) {
        return text.find(before + key + behind) != std::string::npos;
      });
    });
    EXPECT_TRUE(named) << path << " is not in docs/compose.md";
  }
}

}  // namespace
}  // namespace muster::deploy::compose
