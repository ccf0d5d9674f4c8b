#include "deploy/cli/repeat.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace muster::deploy::cli {
namespace {

const Status kLost(StatusCode::kUnavailable, "musterd closed the connection", "connection-lost");
const Status kNobody(StatusCode::kUnavailable, "Cannot connect to musterd");
const Status kUnknown(StatusCode::kUnknown, "leadership was lost", "outcome-unknown");

// Sends until the script of answers is over, which then repeats its last one.
struct Script {
  std::vector<Status> answers;
  size_t sent = 0;
  int waits = 0;
  int patience = 100;  // waits that end with somebody to ask

  Result<int> run() {
    return repeat_uncertain(
        [&]() -> Result<int> {
          const Status& answer = answers[std::min(sent++, answers.size() - 1)];
          if (!answer.ok()) return fail(answer);
          return 7;
        },
        [&](const Status&) { return ++waits <= patience; });
  }
};

TEST(Repeat, OnlyWhatIsUncertainIsSentAgain) {
  for (const Status& definite : {ok_status(), kNobody, not_found("x"), invalid_argument("x")}) {
    Script script{{definite}};
    EXPECT_EQ(script.run().has_value(), definite.ok());
    EXPECT_EQ(script.sent, 1u) << definite.message();
  }
}

TEST(Repeat, AMusterdThatComesBackAnswers) {
  Script script{{kLost, kNobody, kNobody, kUnknown, ok_status()}};
  EXPECT_EQ(script.run().value(), 7);
  EXPECT_EQ(script.sent, 5u);
}

TEST(Repeat, AnAnswerIsAnAnswerEvenIfItIsARefusal) {
  Script script{{kUnknown, invalid_argument("no")}};
  EXPECT_EQ(script.run().error().code(), StatusCode::kInvalidArgument);
}

TEST(Repeat, WhatStaysUncertainSaysSoInTheEnd) {
  Script script{{kLost, kNobody}};
  const auto answer = script.run();
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().message(),
            "Cannot connect to musterd; the change may or may not have happened");
  EXPECT_EQ(script.waits, kRepeatsMax);
}

TEST(Repeat, AMusterdThatStaysAwayIsNotWaitedForTwice) {
  Script script{{kLost, kNobody}};
  script.patience = 0;
  EXPECT_EQ(script.run().error().message(),
            "musterd closed the connection; the change may or may not have happened");
  EXPECT_EQ(script.sent, 1u);
}

}  // namespace
}  // namespace muster::deploy::cli
