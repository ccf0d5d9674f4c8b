#include "manager/control/forwarding.h"

#include <gtest/gtest.h>

#include "tests/manager/members/fake_group.h"

namespace muster::manager::control {
namespace {

using Do = Forwarding::Do;
using Kind = Forwarding::Kind;
using members::member;

// Three managers, as number 1 sees them.
raft::GroupView led_by(uint64_t leader, raft::Term term = 5) {
  raft::GroupView view;
  view.self = {1};
  view.leader = {leader};
  view.leads = leader == 1;
  view.term = term;
  view.members = {member(1, "n1"), member(2, "n2"), member(3, "n3")};
  return view;
}

TimePoint at(Duration d) {
  return TimePoint{d};
}

const Status kBroken(StatusCode::kUnavailable, "connection reset");
const Status kNotLeader(StatusCode::kUnavailable, "somebody else", "not-leader");
const Status kUnknownOutcome(StatusCode::kUnknown, "may or may not", "outcome-unknown");
const Status kCancelled(StatusCode::kCancelled, "cancelled");

TEST(Forwarding, WhereARequestGoes) {
  raft::GroupView not_sure = led_by(1);
  not_sure.leads = false;  // elected, and not yet through its first entry
  raft::GroupView stranger = led_by(9);
  struct Case {
    const char* what;
    raft::GroupView view;
    bool arrived_forwarded;
    Do what_then;
    const char* address;
  };
  const Case cases[] = {
      {"the leader answers for itself", led_by(1), false, Do::kServe, ""},
      {"also for others", led_by(1), true, Do::kServe, ""},
      {"another leads", led_by(2), false, Do::kForward, "10.0.0.2:2377"},
      {"one hop at most", led_by(2), true, Do::kAnswer, ""},
      {"nobody leads", led_by(0), false, Do::kWait, ""},
      {"nobody leads, on another's behalf", led_by(0), true, Do::kWait, ""},
      {"this one is about to lead", not_sure, false, Do::kWait, ""},
      {"a leader whose address is not known yet", stranger, false, Do::kWait, ""},
  };
  for (const Case& c : cases) {
    Forwarding way(Kind::kChange, c.arrived_forwarded);
    const auto next = way.look(c.view, at(0s));
    EXPECT_EQ(next.what, c.what_then) << c.what;
    EXPECT_EQ(next.address, c.address) << c.what;
    if (next.what == Do::kAnswer) {
      EXPECT_EQ(next.status.reason(), "not-leader") << c.what;
    }
  }
}

TEST(Forwarding, WithoutALeaderItWaitsAndThenSaysSo) {
  Forwarding way(Kind::kRepeatable, false);
  EXPECT_EQ(way.look(led_by(0), at(0s)).what, Do::kWait);
  EXPECT_EQ(way.look(led_by(0), at(3499ms)).what, Do::kWait);
  EXPECT_EQ(way.look(led_by(0), at(3500ms)).what, Do::kNoLeader);
  Forwarding patient(Kind::kRepeatable, false);
  patient.look(led_by(0), at(0s));
  EXPECT_EQ(patient.look(led_by(3), at(2s)).address, "10.0.0.3:2377");
}

TEST(Forwarding, WhatEndsARequestAndWhatTriesAgain) {
  struct Case {
    const char* what;
    bool repeatable;
    Status status;
    bool sent;
    Do then;  // with a new leader known
    StatusCode code = StatusCode::kOk;
    const char* reason = "";
  };
  const Case cases[] = {
      {"an answer is an answer", false,
       Status(StatusCode::kAlreadyExists, "taken", "name-conflict"), true, Do::kAnswer,
       StatusCode::kAlreadyExists, "name-conflict"},
      {"also without a reason", true, Status(StatusCode::kNotFound, "nowhere"), true, Do::kAnswer,
       StatusCode::kNotFound},
      {"busy with a reason", true, Status(StatusCode::kUnavailable, "busy", "overloaded"), true,
       Do::kAnswer, StatusCode::kUnavailable, "overloaded"},
      {"certainly not done", false, kNotLeader, true, Do::kForward},
      {"a leader that hands over", false,
       Status(StatusCode::kUnavailable, "leadership is being handed over", "transferring"), true,
       Do::kForward},
      {"never sent", false, kBroken, false, Do::kForward},
      {"perhaps done, and cannot be told apart", false, kBroken, true, Do::kAnswer,
       StatusCode::kUnknown, "outcome-unknown"},
      {"perhaps done, with a request id", true, kBroken, true, Do::kForward},
      {"the leader does not know", true, kUnknownOutcome, true, Do::kForward},
      {"the leader does not know, without a request id", false, kUnknownOutcome, true, Do::kAnswer,
       StatusCode::kUnknown, "outcome-unknown"},
      {"the client's own time is over", true,
       Status(StatusCode::kDeadlineExceeded, "Deadline Exceeded"), true, Do::kAnswer,
       StatusCode::kDeadlineExceeded},
      {"the client went away", true, kCancelled, true, Do::kAnswer, StatusCode::kCancelled},
  };
  for (const Case& c : cases) {
    Forwarding way(c.repeatable ? Kind::kRepeatable : Kind::kChange, false);
    ASSERT_EQ(way.look(led_by(2), at(0s)).what, Do::kForward);
    const auto next = way.ended(c.status, c.sent, led_by(3, 6), at(100ms));
    EXPECT_EQ(next.what, c.then) << c.what;
    if (next.what == Do::kForward) {
      EXPECT_EQ(next.address, "10.0.0.3:2377") << c.what;
    }
    if (next.what != Do::kAnswer) continue;
    EXPECT_EQ(next.status.code(), c.code) << c.what;
    EXPECT_EQ(next.status.reason(), c.reason) << c.what;
  }
}

TEST(Forwarding, WhoFailedIsAskedAgainInANewTermOrAfterAWhile) {
  Forwarding way(Kind::kRepeatable, false);
  way.look(led_by(2), at(0s));
  // A leader of a moment ago serves in the next: again soon, then after twice as long each time.
  Duration now = 0s;
  for (const Duration wait : {10ms, 20ms, 40ms, 80ms, 160ms, 160ms}) {
    EXPECT_EQ(way.ended(kNotLeader, true, led_by(2), at(now)).what, Do::kWait);
    EXPECT_EQ(way.look(led_by(2), at(now + wait - 1ms)).what, Do::kWait);
    now += wait;
    EXPECT_EQ(way.look(led_by(2), at(now)).what, Do::kForward);
  }
  // Another term is another leader: at once, and its first failure counts as a first one.
  EXPECT_EQ(way.ended(kNotLeader, true, led_by(2), at(now)).what, Do::kWait);
  EXPECT_EQ(way.look(led_by(2, 6), at(now + 1ms)).what, Do::kForward);
  EXPECT_EQ(way.ended(kNotLeader, true, led_by(2, 6), at(now + 1ms)).what, Do::kWait);
  EXPECT_EQ(way.look(led_by(2, 6), at(now + 11ms)).what, Do::kForward);
}

TEST(Forwarding, AnAnswerComesInTimeHoweverLateTheTrouble) {
  // Lost with its leader after two seconds: 5 s in all, counting included.
  Forwarding young(Kind::kRepeatable, false);
  young.look(led_by(1), at(0s));
  EXPECT_EQ(young.ended(kNotLeader, true, led_by(0), at(2s)).what, Do::kWait);
  EXPECT_EQ(young.look(led_by(0), at(3499ms)).what, Do::kWait);
  EXPECT_EQ(young.look(led_by(0), at(3500ms)).what, Do::kNoLeader);
  // One that has been at work for long outlives a failover all the same.
  Forwarding old(Kind::kRepeatable, false);
  old.look(led_by(1), at(0s));
  EXPECT_EQ(old.ended(kUnknownOutcome, true, led_by(0), at(30s)).what, Do::kWait);
  EXPECT_EQ(old.look(led_by(0), at(31499ms)).what, Do::kWait);
  EXPECT_EQ(old.look(led_by(2, 6), at(31499ms)).what, Do::kForward);
}

TEST(Forwarding, ALeaderThatCannotBeReachedIsNamed) {
  Forwarding way(Kind::kChange, false);
  way.look(led_by(2), at(0s));
  EXPECT_EQ(way.ended(kBroken, false, led_by(2), at(0s)).what, Do::kWait);
  EXPECT_EQ(way.look(led_by(2), at(3s)).what, Do::kForward);
  const auto next = way.ended(kBroken, false, led_by(2), at(3500ms));
  EXPECT_EQ(next.what, Do::kAnswer);
  EXPECT_EQ(next.status.reason(), "leader-unreachable");
  EXPECT_EQ(next.status.message(),
            "the leader at 10.0.0.2:2377 cannot be reached: connection reset");
}

TEST(Forwarding, WhatMayBeDoneIsRepeatedOnce) {
  Forwarding way(Kind::kRepeatable, false);
  way.look(led_by(2), at(0s));
  EXPECT_EQ(way.ended(kBroken, true, led_by(3, 6), at(0s)).what, Do::kForward);
  const auto next = way.ended(kBroken, true, led_by(2, 7), at(1s));
  EXPECT_EQ(next.what, Do::kAnswer);
  EXPECT_EQ(next.status.reason(), "outcome-unknown");
}

TEST(Forwarding, WhatOnlyReadsIsAskedUntilItIsAnswered) {
  const Status late(StatusCode::kDeadlineExceeded, "Deadline Exceeded");
  Forwarding way(Kind::kRead, false);
  way.look(led_by(2), at(0s));
  EXPECT_EQ(way.ended(kBroken, true, led_by(3, 6), at(100ms)).what, Do::kForward);
  EXPECT_EQ(way.ended(kBroken, true, led_by(2, 7), at(200ms)).what, Do::kForward);
  EXPECT_EQ(way.ended(kUnknownOutcome, true, led_by(3, 8), at(300ms)).what, Do::kForward);
  EXPECT_EQ(way.ended(late, true, led_by(2, 9), at(400ms)).what, Do::kForward);
  EXPECT_EQ(way.look_while_asking(led_by(3, 10), at(500ms)).what, Do::kGiveUp);
  EXPECT_EQ(way.ended(kCancelled, true, led_by(3, 10), at(500ms)).what, Do::kForward);
  // Nobody is to be told that something may have happened.
  EXPECT_EQ(way.ended(kBroken, true, led_by(0), at(600ms)).what, Do::kWait);
  EXPECT_EQ(way.look(led_by(0), at(3500ms)).what, Do::kNoLeader);
  Forwarding answered(Kind::kRead, false);
  answered.look(led_by(2), at(0s));
  EXPECT_EQ(answered.ended(Status(StatusCode::kNotFound, "no such"), true, led_by(2), at(0s)).what,
            Do::kAnswer);
}

TEST(Forwarding, AReadOfOnesOwnStateOnlyNeedsThatSomebodyLeads) {
  Forwarding way(Kind::kOwnRead, false);
  EXPECT_EQ(way.look(led_by(0), at(0s)).what, Do::kWait);
  EXPECT_EQ(way.look(led_by(2), at(1s)).what, Do::kServe);
  Forwarding stranger(Kind::kOwnRead, false);
  EXPECT_EQ(stranger.look(led_by(9), at(0s)).what, Do::kServe);
  Forwarding restarted(Kind::kOwnRead, false);
  raft::GroupView behind = led_by(2);
  behind.behind = true;
  EXPECT_EQ(restarted.look(behind, at(0s)).what, Do::kWait);
  EXPECT_EQ(restarted.look(led_by(2), at(1s)).what, Do::kServe);
  Forwarding still(Kind::kOwnRead, false);
  still.look(behind, at(0s));
  const auto given_up = still.look(behind, at(3500ms));
  EXPECT_EQ(given_up.what, Do::kAnswer);
  EXPECT_EQ(given_up.status.reason(), "not-caught-up");
  Forwarding alone(Kind::kOwnRead, false);
  alone.look(led_by(0), at(0s));
  EXPECT_EQ(alone.look(led_by(0), at(3500ms)).what, Do::kNoLeader);
}

TEST(Forwarding, WhatMayBeDoneKeepsThatWhenNobodyLeadsAnyMore) {
  Forwarding way(Kind::kRepeatable, false);
  way.look(led_by(2), at(0s));
  EXPECT_EQ(way.ended(kBroken, true, led_by(0), at(0s)).what, Do::kWait);
  const auto next = way.look(led_by(0), at(4s));
  EXPECT_EQ(next.what, Do::kNoLeader) << "both are said";
  EXPECT_EQ(next.status.code(), StatusCode::kUnknown);
  EXPECT_EQ(next.status.reason(), "outcome-unknown");
}

TEST(Forwarding, WhoseOutcomeIsUnknownDoesNotWaitForALeader) {
  for (const Status& broken : {kBroken, kUnknownOutcome}) {
    Forwarding way(Kind::kChange, false);
    way.look(led_by(2), at(0s));
    const auto next = way.ended(broken, true, led_by(0), at(1s));
    EXPECT_EQ(next.what, Do::kAnswer);
    EXPECT_EQ(next.status.reason(), "outcome-unknown");
  }
}

TEST(Forwarding, ACallToWhoLeadsNoMoreIsGivenUpOnce) {
  Forwarding way(Kind::kRepeatable, false);
  way.look(led_by(2), at(0s));
  EXPECT_EQ(way.look_while_asking(led_by(2), at(1s)).what, Do::kWait);
  EXPECT_EQ(way.look_while_asking(led_by(0), at(2s)).what, Do::kGiveUp);
  EXPECT_EQ(way.look_while_asking(led_by(0), at(2s)).what, Do::kWait);
  EXPECT_EQ(way.ended(kCancelled, true, led_by(3, 6), at(2s)).address, "10.0.0.3:2377");
  Forwarding once(Kind::kChange, false);
  once.look(led_by(2), at(0s));
  EXPECT_EQ(once.look_while_asking(led_by(3), at(2s)).what, Do::kGiveUp);
  EXPECT_EQ(once.ended(kCancelled, true, led_by(3, 6), at(2s)).status.reason(), "outcome-unknown");
}

TEST(Forwarding, ALeaderThatLosesItsTermPassesOn) {
  Forwarding way(Kind::kChange, false);
  EXPECT_EQ(way.look(led_by(1), at(0s)).what, Do::kServe);
  EXPECT_EQ(way.look_while_asking(led_by(3), at(0s)).what, Do::kWait) << "it learns by itself";
  EXPECT_EQ(way.ended(kNotLeader, true, led_by(3, 6), at(0s)).what, Do::kForward);
}

TEST(Forwarding, TheCallerGoesAlong) {
  security::Principal user;
  user.kind = security::Principal::Kind::kLocalUser;
  user.uid = 1000;
  user.gid = 44;
  auto read = decode_caller(encode_caller(user));
  ASSERT_TRUE(read);
  EXPECT_EQ(read->kind, security::Principal::Kind::kLocalUser);
  EXPECT_EQ(read->uid, 1000u);
  EXPECT_EQ(read->gid, 44u);
  security::Principal node;
  node.kind = security::Principal::Kind::kNode;
  node.node_id = "n7";
  node.manager = true;
  node.cluster_id = "c";
  read = decode_caller(encode_caller(node));
  ASSERT_TRUE(read);
  EXPECT_EQ(read->node_id, "n7");
  EXPECT_TRUE(read->manager);
  EXPECT_EQ(read->cluster_id, "c");
  security::Principal client;
  client.kind = security::Principal::Kind::kClient;
  client.node_id = "alice";
  client.cluster_id = "c";
  read = decode_caller(encode_caller(client));
  ASSERT_TRUE(read);
  EXPECT_EQ(read->kind, security::Principal::Kind::kClient);
  EXPECT_EQ(read->node_id, "alice");
  EXPECT_FALSE(read->manager);
  EXPECT_EQ(read->cluster_id, "c");
  for (const char* wrong :
       {"", "none", "client", "client:a", "client::c", "client:a:b:c", "user", "user:0", "user:x:0",
        "user:0:0:0", "node:a:b:c", "node::manager:c", "node:a:manager", "root:0:0", "user:-1:0"}) {
    EXPECT_FALSE(decode_caller(wrong)) << wrong;
  }
  EXPECT_FALSE(decode_caller(encode_caller(security::Principal()))) << "nobody is nobody";
}

}  // namespace
}  // namespace muster::manager::control
