// docs/compose.md says of every key what becomes of it.

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

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

// Rows of the table below a heading, cell by cell.
std::vector<std::vector<std::string>> table(const std::string& text, const std::string& heading) {
  std::vector<std::vector<std::string>> out;
  const size_t at = text.find("\n" + heading + "\n");
  if (at == std::string::npos) return out;
  std::istringstream lines(text.substr(at + heading.size() + 2));
  for (std::string line; std::getline(lines, line) && !line.starts_with("##");) {
    if (!line.starts_with("|")) continue;
    std::vector<std::string>& row = out.emplace_back();
    std::istringstream cells(line.substr(1));
    for (std::string cell; std::getline(cells, cell, '|');) {
      const size_t first = cell.find_first_not_of(' ');
      const size_t last = cell.find_last_not_of(' ');
      row.push_back(first == std::string::npos ? "" : cell.substr(first, last - first + 1));
    }
  }
  // The head and the line below it.
  out.erase(out.begin(),
            out.begin() + static_cast<std::ptrdiff_t>(std::min<size_t>(2, out.size())));
  return out;
}

// What each table says of each dialect is what the grammar takes: "-" where the key does not exist,
// something else where it does. Keys that v3 forbids by name are "refused" and in no grammar.
TEST(Docs, SayOfEveryKeyWhatEachDialectDoesWithIt) {
  std::ifstream in("docs/compose.md");
  const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  const std::pair<std::string_view, const char*> sections[] = {
      {"services.*.deploy.", "### deploy"},
      {"services.*.ports.[].", "### Ports"},
      {"services.*.volumes.[].", "### Volumes of a service"},
      {"services.*.networks.*.", "### Networks of a service"},
      {"services.*.", "### Services"},
      {"networks.*.", "### Networks"},
      {"volumes.*.", "### Volumes"},
      {"secrets.*.", "### Secrets and configs"},
      {"configs.*.", "### Secrets and configs"},
      {"", "### Top level"},
  };
  size_t checked = 0;
  for (const SchemaRule& rule : schema_rules()) {
    const auto& [prefix, heading] =
        *std::find_if(std::begin(sections), std::end(sections),
                      [&](const auto& section) { return rule.path.starts_with(section.first); });
    const std::string key(rule.path.substr(prefix.size()));
    // Deeper places are part of their parent's row; "deploy" has a table of its own.
    if (key.find('.') != std::string::npos || key == "*" || key == "[]" || key == "deploy")
      continue;
    const auto rows = table(text, heading);
    const auto row = std::find_if(rows.begin(), rows.end(), [&](const auto& cells) {
      return cells[0].find("`" + key + "`") != std::string::npos ||
             cells[0].find("`" + key + ".") != std::string::npos ||
             cells[0].find("`" + key + ":") != std::string::npos;
    });
    ASSERT_NE(row, rows.end()) << rule.path << " has no row in \"" << heading << "\"";
    ASSERT_GE(row->size(), 3u) << rule.path;
    const std::string& v3 = (*row)[1];
    const std::string& spec = (*row)[2];
    EXPECT_FALSE(v3.empty() || spec.empty()) << rule.path;
    EXPECT_EQ(rule.v3 == 0, v3 == "-" || v3.starts_with("refused")) << rule.path << ": " << v3;
    EXPECT_EQ(rule.spec == 0, spec == "-") << rule.path << ": " << spec;
    ++checked;
  }
  EXPECT_GE(checked, 150u);
}

}  // namespace
}  // namespace muster::deploy::compose
