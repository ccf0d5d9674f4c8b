// docs/debug-eval.md shows every suite with a case and its answer.
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <fstream>
#include <string>
#include <vector>

#include "deploy/eval/eval.h"

namespace muster::deploy::eval {
namespace {

namespace json = boost::json;

// What stands between "## <title>" and the next title; empty when there is no such.
std::string section(const std::string& text, const std::string& title) {
  const size_t begin = text.find("\n## " + title + "\n");
  if (begin == std::string::npos) return {};
  const size_t end = text.find("\n## ", begin + 1);
  return text.substr(begin, end == std::string::npos ? end : end - begin);
}

std::vector<std::string> json_blocks(const std::string& text) {
  static const std::string kOpen = "```json\n";
  std::vector<std::string> blocks;
  for (size_t at = text.find(kOpen); at != std::string::npos; at = text.find(kOpen, at)) {
    at += kOpen.size();
    const size_t end = text.find("```", at);
    blocks.push_back(text.substr(at, end - at));
    at = end;
  }
  return blocks;
}

TEST(Docs, EverySuiteAnswersItsWorkedCaseAsWritten) {
  std::ifstream in("docs/debug-eval.md");
  const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  ASSERT_FALSE(text.empty());
  ASSERT_GE(suites().size(), 8u);
  for (const std::string& suite : suites()) {
    const std::vector<std::string> blocks = json_blocks(section(text, suite));
    ASSERT_EQ(blocks.size(), 2u) << suite << " has a case and an answer";
    const auto answer = evaluate(suite, json::parse(blocks[0]));
    ASSERT_TRUE(answer) << suite << ": " << answer.error().message();
    EXPECT_TRUE(json::parse(json::serialize(*answer)) == json::parse(blocks[1]))
        << suite << " answers " << json::serialize(*answer);
  }
}

}  // namespace
}  // namespace muster::deploy::eval
