#include "tests/history/history.h"

#include <gmock/gmock.h>

#include "tests/history/sessions.h"

namespace muster::history {
namespace {

using testing::HasSubstr;

Operation operation(uint64_t id, Kind kind, std::string value, uint64_t version,
                    std::string manager = "m1", uint64_t client = 1) {
  Operation op;
  op.id = id;
  op.client = client;
  op.manager = std::move(manager);
  op.kind = kind;
  op.key = "r1";
  op.value = std::move(value);
  op.version = version;
  op.outcome = op.value.empty() && kind != Kind::kRemove ? Outcome::kRefused : Outcome::kOk;
  op.begin = {Duration(10 * id)};
  op.end = TimePoint{Duration(10 * id + 5)};
  return op;
}

std::string text_of(const std::vector<Operation>& ops) {
  std::string out = "# a history\n";
  for (const Operation& op : ops) {
    Operation asked = op;
    if (op.kind == Kind::kRead || op.kind == Kind::kPlain) asked.value.clear();
    out += begin_line(asked);
    if (op.end) out += end_line(op);
  }
  return out;
}

TEST(HistoryFile, IsReadAsItWasWritten) {
  Operation update = operation(3, Kind::kUpdate, "b", 8);
  update.from = "a";
  const std::vector<Operation> ops = {
      operation(1, Kind::kCreate, "a", 7), operation(2, Kind::kRead, "a", 7), update,
      operation(4, Kind::kRemove, "", 0), operation(5, Kind::kPlain, "", 0)};
  const auto again = parse_history(text_of(ops));
  ASSERT_TRUE(again) << again.error().to_string();
  ASSERT_EQ(again->size(), ops.size());
  for (size_t i = 0; i < ops.size(); ++i) EXPECT_EQ(describe((*again)[i]), describe(ops[i]));
  EXPECT_EQ((*again)[1].value, "a");
  EXPECT_EQ((*again)[4].outcome, Outcome::kRefused);
}

TEST(HistoryFile, WhatHasNotEndedIsUnknown) {
  Operation under_way = operation(1, Kind::kCreate, "a", 0);
  under_way.end.reset();
  const auto ops = parse_history(text_of({under_way}) + "e 1 ok m1 a 7 2");
  ASSERT_TRUE(ops);
  ASSERT_EQ(ops->size(), 1u);
  EXPECT_EQ((*ops)[0].outcome, Outcome::kUnknown);
  EXPECT_FALSE((*ops)[0].end);
}

TEST(HistoryFile, NamesTheLineThatIsWrong) {
  for (const char* bad : {"", "x", "b 1 1 read r", "b 1 1 write r - - 5", "b 1 1 read r - - 5x",
                          "b -1 1 read r - - 5", "e 9 ok m1 a 7 5", "e 1 ok m1 a 7 1",
                          "e 1 fine m1 a 7 5", "b 1 1 read r - - 5 6"}) {
    const auto ops = parse_history(std::string("# one\nb 1 1 read r - - 2\n") + bad + "\n");
    ASSERT_FALSE(ops) << bad;
    EXPECT_EQ(ops.error().code(), StatusCode::kDataLoss);
    EXPECT_THAT(ops.error().message(), HasSubstr("line 3 ")) << bad;
  }
  const char* twice = "b 1 1 read r - - 2\nb 1 1 read r - - 2\n";
  EXPECT_FALSE(parse_history(twice));
}

TEST(Sessions, DoNotGoBackAtOneManager) {
  EXPECT_EQ(check_sessions({operation(1, Kind::kPlain, "a", 5), operation(2, Kind::kPlain, "a", 5),
                            operation(3, Kind::kPlain, "b", 6)})
                .violation,
            "");
  const auto verdict =
      check_sessions({operation(1, Kind::kPlain, "b", 6), operation(2, Kind::kPlain, "a", 5)});
  EXPECT_THAT(verdict.violation, HasSubstr("older than what was known: the plain of r1"));
  EXPECT_EQ(verdict.checked, 2u);
}

TEST(Sessions, SeeWhatTheyWrote) {
  EXPECT_NE(
      check_sessions({operation(1, Kind::kUpdate, "b", 6), operation(2, Kind::kPlain, "a", 5)})
          .violation,
      "");
  EXPECT_NE(check_sessions({operation(1, Kind::kPlain, "a", 5), operation(2, Kind::kRemove, "", 0),
                            operation(3, Kind::kPlain, "a", 5)})
                .violation,
            "");
  EXPECT_EQ(check_sessions({operation(1, Kind::kRemove, "", 0), operation(2, Kind::kPlain, "", 0),
                            operation(3, Kind::kPlain, "b", 9)})
                .violation,
            "");
}

TEST(Sessions, AreOfOneClientAndOneManager) {
  EXPECT_EQ(
      check_sessions({operation(1, Kind::kPlain, "b", 6), operation(2, Kind::kPlain, "a", 5, "m2"),
                      operation(3, Kind::kPlain, "a", 5, "m1", 2)})
          .violation,
      "");
}

}  // namespace
}  // namespace muster::history
