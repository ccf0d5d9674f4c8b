// Runs the cases: a command, a line of four dashes, what is said; an empty line between commands.
// With MUSTER_REWRITE set the files are rewritten with what is said now, for review as a diff.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/raft/text/text_group.h"

namespace muster::raft {
namespace {

std::vector<std::filesystem::path> cases() {
  std::vector<std::filesystem::path> out;
  for (const auto& entry : std::filesystem::directory_iterator(MUSTER_CASES)) {
    if (entry.path().extension() == ".txt") out.push_back(entry.path());
  }
  std::sort(out.begin(), out.end());
  return out;
}

std::vector<std::string> lines_of(const std::filesystem::path& path) {
  std::ifstream in(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

class RaftText : public ::testing::TestWithParam<std::filesystem::path> {};

TEST_P(RaftText, SaysWhatIsWritten) {
  TextGroup group;
  std::string said;
  std::string expected;
  const std::vector<std::string> lines = lines_of(GetParam());
  for (size_t i = 0; i < lines.size(); ++i) expected += lines[i] + "\n";
  for (size_t i = 0; i < lines.size();) {
    if (lines[i].empty() || lines[i][0] == '#') {
      said += lines[i++] + "\n";
      continue;
    }
    said += lines[i] + "\n----\n" + group.run(lines[i]);
    ++i;
    while (i < lines.size() && !lines[i].empty()) ++i;  // what was said before
  }
  if (std::getenv("MUSTER_REWRITE") != nullptr) {
    std::ofstream(GetParam()) << said;
    return;
  }
  EXPECT_EQ(said, expected);
}

INSTANTIATE_TEST_SUITE_P(Cases, RaftText, ::testing::ValuesIn(cases()), [](const auto& info) {
  std::string name = info.param.stem().string();
  std::replace_if(
      name.begin(), name.end(), [](char c) { return std::isalnum(c) == 0; }, '_');
  return name;
});

}  // namespace
}  // namespace muster::raft
