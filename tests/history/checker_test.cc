#include "tests/history/checker.h"

#include <gmock/gmock.h>

#include <sstream>

#include "base/rng.h"

namespace muster::history {
namespace {

using testing::HasSubstr;

TimePoint at(int64_t ms) {
  return {Duration(ms * 1'000'000)};
}

// A history written the short way: one operation a line, "KIND [FROM>]VALUE OUTCOME BEGIN END
// [KEY]",
// "-" for no value and for no end.
std::vector<Operation> history(const std::vector<std::string>& lines) {
  std::vector<Operation> out;
  for (const std::string& line : lines) {
    std::istringstream words(line);
    std::string kind, value, outcome, begin, end, key = "r";
    words >> kind >> value >> outcome >> begin >> end >> key;
    Operation op;
    op.id = op.client = out.size() + 1;
    for (const Kind k : {Kind::kRead, Kind::kPlain, Kind::kCreate, Kind::kUpdate, Kind::kRemove})
      if (to_string(k) == kind) op.kind = k;
    for (const Outcome o : {Outcome::kOk, Outcome::kRefused, Outcome::kFailed, Outcome::kUnknown})
      if (to_string(o) == outcome) op.outcome = o;
    if (const size_t arrow = value.find('>'); arrow != std::string::npos) {
      op.from = value.substr(0, arrow);
      value.erase(0, arrow + 1);
    }
    if (value != "-") op.value = value;
    op.key = key.empty() ? "r" : key;
    op.begin = at(std::stoll(begin));
    if (end != "-") op.end = at(std::stoll(end));
    out.push_back(std::move(op));
  }
  return out;
}

Verdict::Answer judge(const std::vector<std::string>& lines) {
  return check_linearizable(history(lines)).answer;
}
constexpr auto kYes = Verdict::Answer::kYes;
constexpr auto kNo = Verdict::Answer::kNo;

TEST(Linearizable, NothingIs) {
  EXPECT_EQ(judge({}), kYes);
  EXPECT_EQ(judge({"read - refused 0 1"}), kYes);
}

TEST(Linearizable, OneAfterTheOther) {
  EXPECT_EQ(judge({"create a ok 0 1", "read a ok 2 3", "update a>b ok 4 5", "read b ok 6 7",
                   "remove - ok 8 9", "read - refused 10 11", "create c ok 12 13"}),
            kYes);
}

TEST(Linearizable, AReadOfWhatWasNeverWrittenIsNot) {
  EXPECT_EQ(judge({"read a ok 0 1"}), kNo);
  EXPECT_EQ(judge({"create a ok 0 1", "read b ok 2 3"}), kNo);
}

TEST(Linearizable, AStaleReadIsNot) {
  EXPECT_EQ(judge({"create a ok 0 1", "update a>b ok 2 3", "read a ok 4 5"}), kNo);
  EXPECT_EQ(judge({"create a ok 0 1", "remove - ok 2 3", "read a ok 4 5"}), kNo);
  EXPECT_EQ(judge({"create a ok 0 1", "read - refused 2 3"}), kNo);
}

TEST(Linearizable, AReadBesideAWriteMaySeeEither) {
  EXPECT_EQ(judge({"create a ok 0 1", "update a>b ok 2 9", "read a ok 3 4"}), kYes);
  EXPECT_EQ(judge({"create a ok 0 1", "update a>b ok 2 9", "read b ok 3 4"}), kYes);
}

TEST(Linearizable, ReadsOneAfterTheOtherDoNotGoBack) {
  EXPECT_EQ(judge({"create a ok 0 1", "update a>b ok 2 9", "read b ok 3 4", "read a ok 5 6"}), kNo);
  // But they may beside each other.
  EXPECT_EQ(judge({"create a ok 0 1", "update a>b ok 2 9", "read b ok 3 6", "read a ok 4 5"}),
            kYes);
}

TEST(Linearizable, OfTwoThatReplaceOneValueOnlyOneCan) {
  EXPECT_EQ(judge({"create a ok 0 1", "update a>b ok 2 9", "update a>c ok 3 8"}), kNo);
  EXPECT_EQ(judge({"create a ok 0 1", "update a>b ok 2 9", "update a>c refused 3 8"}), kYes);
  EXPECT_EQ(judge({"create a ok 0 9", "create b ok 0 9"}), kNo);
  EXPECT_EQ(judge({"create a ok 0 9", "create b refused 0 9"}), kYes);
}

TEST(Linearizable, ARefusalNeedsAReason) {
  EXPECT_EQ(judge({"create a ok 0 1", "update a>b refused 2 3"}), kNo);
  EXPECT_EQ(judge({"create a refused 0 1"}), kNo);
  EXPECT_EQ(judge({"create a ok 0 1", "remove - refused 2 3"}), kNo);
  // It can lie in what another did at the same time.
  EXPECT_EQ(judge({"create a ok 0 1", "remove - ok 2 9", "update a>b refused 3 4"}), kYes);
}

TEST(Linearizable, AnAcknowledgedWriteIsNotLost) {
  EXPECT_EQ(judge({"create a ok 0 1", "update a>b ok 2 3", "update a>c ok 4 5"}), kNo);
  EXPECT_EQ(judge({"create a ok 0 1", "create b ok 2 3"}), kNo);
}

TEST(Linearizable, TheUnknownMayHaveHappenedOrNot) {
  const std::vector<std::string> begin = {"create a ok 0 1", "update a>b unknown 2 3"};
  const auto then = [&](std::vector<std::string> rest) {
    std::vector<std::string> all = begin;
    all.insert(all.end(), rest.begin(), rest.end());
    return judge(all);
  };
  EXPECT_EQ(then({"read a ok 4 5"}), kYes);
  EXPECT_EQ(then({"read b ok 4 5"}), kYes);
  // And it may happen long after its client gave up, but not before it began, and once.
  EXPECT_EQ(then({"read a ok 4 5", "read b ok 6 7"}), kYes);
  EXPECT_EQ(then({"read b ok 4 5", "read a ok 6 7"}), kNo);
  EXPECT_EQ(judge({"create a ok 0 1", "read b ok 2 3", "update a>b unknown 4 5"}), kNo);
  EXPECT_EQ(then({"update a>c ok 4 5", "read b ok 6 7"}), kNo);
}

TEST(Linearizable, WhatIsUnderWayIsUnknown) {
  EXPECT_EQ(judge({"create a ok 0 1", "update a>b unknown 2 -", "read b ok 4 5"}), kYes);
}

TEST(Linearizable, WhatFailedWasNotDone) {
  EXPECT_EQ(judge({"create a ok 0 1", "update a>b failed 2 3", "read a ok 4 5"}), kYes);
  EXPECT_EQ(judge({"create a ok 0 1", "update a>b failed 2 3", "read b ok 4 5"}), kNo);
}

TEST(Linearizable, PlainReadsAreAnotherMatter) {
  EXPECT_EQ(judge({"create a ok 0 1", "update a>b ok 2 3", "plain a ok 4 5"}), kYes);
}

TEST(Linearizable, RegistersAreJudgedAlone) {
  EXPECT_EQ(judge({"create a ok 0 1 x", "create b ok 0 1 y", "read a ok 2 3 x", "read b ok 2 3 y"}),
            kYes);
  EXPECT_EQ(judge({"create a ok 0 1 x", "read a ok 2 3 y"}), kNo);
}

TEST(Linearizable, SaysWhatElseMightHaveBeenDone) {
  const Verdict verdict =
      check_linearizable(history({"create a ok 0 1", "update x>y ok 2 9", "read b ok 3 4"}));
  EXPECT_THAT(verdict.why, HasSubstr("no place for the read of r by client 3"));
  EXPECT_THAT(verdict.why, HasSubstr("beside it: update of r by client 2, from x"));
}

TEST(Linearizable, SaysWhatFitsNowhere) {
  const Verdict verdict =
      check_linearizable(history({"create a ok 0 1 x", "create b ok 0 1 y", "update b>c ok 2 3 y",
                                  "update c>d unknown 3 4 y", "read b ok 4 5 y"}));
  EXPECT_EQ(verdict.answer, kNo);
  EXPECT_EQ(verdict.checked, 5u);
  EXPECT_THAT(verdict.why, HasSubstr("y: no place for the read of y by client 5, value b: ok"));
  EXPECT_THAT(verdict.why, HasSubstr("after 3 operations it held d"));
}

// ------------------------------------------------------------ histories by chance

// Clients on one register that carries everything out at once: a linearizable history by
// construction. `lose`: one acknowledged write is forgotten, and nothing is unknown, which could be
// what hides it.
std::vector<Operation> by_chance(Rng& rng, size_t operations, bool lose) {
  constexpr size_t kClients = 8;
  std::vector<Operation> out;
  std::string state;
  struct Client {
    std::string known;
    int64_t free = 0;
  };
  std::vector<Client> clients(kClients);
  uint64_t values = 0;
  bool lost = false;
  for (int64_t now = 0; out.size() < operations; now += 10) {
    const size_t who = rng.below(kClients);
    Client& client = clients[who];
    if (client.free > now) continue;
    Operation op;
    op.client = who;
    op.id = out.size();
    op.key = "r";
    // It takes place now; its client began sooner and hears of it later.
    op.begin = at(std::max<int64_t>(client.free, now - static_cast<int64_t>(rng.below(60))));
    op.end = at(now + 1 + static_cast<int64_t>(rng.below(60)));
    client.free = op.end->since_start.count() / 1'000'000 + 1;
    op.outcome = Outcome::kOk;
    const std::string fresh = std::to_string(++values);
    const uint64_t choice = rng.below(10);
    bool done = true;
    if (choice < 4) {
      op.kind = Kind::kRead;
      op.value = state;
      client.known = state;
      if (state.empty()) op.outcome = Outcome::kRefused;
    } else if (choice < 8 && !client.known.empty()) {
      op.kind = Kind::kUpdate;
      op.from = client.known;
      op.value = fresh;
      done = state == op.from;
    } else if (choice < 9) {
      op.kind = Kind::kCreate;
      op.value = fresh;
      done = state.empty();
    } else {
      op.kind = Kind::kRemove;
      done = !state.empty();
    }
    if (op.kind != Kind::kRead) {
      if (!done) op.outcome = Outcome::kRefused;
      const bool unknown = !lose && rng.below(10) == 0;
      const bool forget =
          unknown ? rng.below(2) == 0 : lose && !lost && done && out.size() > operations / 2;
      if (forget && !unknown) lost = true;
      if (done && !forget) state = op.value;
      if (done && !unknown && op.kind != Kind::kRemove) client.known = op.value;
      if (unknown) op.outcome = Outcome::kUnknown;
    }
    out.push_back(std::move(op));
  }
  // What is left at the end is read, twice.
  for (int i = 0; i < 2; ++i) {
    Operation op;
    op.id = out.size();
    op.key = "r";
    op.value = state;
    op.outcome = state.empty() ? Outcome::kRefused : Outcome::kOk;
    op.begin = at(1'000'000 + 10 * i);
    op.end = at(1'000'005 + 10 * i);
    out.push_back(std::move(op));
  }
  return out;
}

TEST(Linearizable, HonestHistoriesPassByChance) {
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    SeededRng rng(seed);
    const Verdict verdict = check_linearizable(by_chance(rng, 300, false));
    EXPECT_TRUE(verdict.ok()) << "seed " << seed << ": " << verdict.why;
  }
}

TEST(Linearizable, ALostWriteIsFoundByChance) {
  int found = 0;
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    SeededRng rng(seed);
    found += check_linearizable(by_chance(rng, 300, true)).answer == kNo ? 1 : 0;
  }
  // The rest was hidden by what was done at the same time.
  EXPECT_GE(found, 85);
}

TEST(Linearizable, GivesUpRatherThanGuess) {
  std::vector<Operation> ops;
  // Everything at once, and no order: no value has anything to do with another.
  for (uint64_t i = 0; i < 40; ++i) {
    Operation op;
    op.id = i;
    op.key = "r";
    op.kind = i % 2 == 0 ? Kind::kCreate : Kind::kRemove;
    op.outcome = Outcome::kUnknown;
    op.value = i % 2 == 0 ? std::to_string(i) : "";
    op.begin = at(0);
    ops.push_back(op);
  }
  Operation read;
  read.key = "r";
  read.value = "never written";
  read.outcome = Outcome::kOk;
  read.begin = at(1);
  read.end = at(2);
  ops.push_back(read);
  const Verdict verdict = check_linearizable(ops, 10'000);
  EXPECT_EQ(verdict.answer, Verdict::Answer::kUndecided);
  EXPECT_FALSE(verdict.ok());
  EXPECT_THAT(verdict.why, HasSubstr("too many orders"));
}

}  // namespace
}  // namespace muster::history
