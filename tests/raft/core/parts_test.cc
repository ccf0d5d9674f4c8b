// Quorums, the log in memory, and members as bytes, against naive models.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "base/rng.h"
#include "raft/core/entry_log.h"
#include "raft/core/quorum.h"

namespace muster::raft {
namespace {

Members random_members(Rng& rng) {
  Members members;
  for (uint64_t id = 1; id <= 7; ++id) {
    Member member{.id = {id}, .node_id = "n", .address = "a"};
    member.voter = rng.below(2) == 0;
    member.outgoing = rng.below(4) == 0;
    if (rng.below(5) != 0) members.put(member);
  }
  return members;
}

// The definition: the highest index that more than half of each set has.
Index naive_committed(const Members& members, const std::map<MemberId, Index>& match) {
  Index best = 0;
  for (Index candidate = 0; candidate <= 10; ++candidate) {
    bool agreed = true;
    for (const auto& set : {members.voters(), members.outgoing()}) {
      size_t have = 0;
      for (const MemberId id : set) have += match.at(id) >= candidate ? 1 : 0;
      if (!set.empty() && have * 2 <= set.size()) agreed = false;
    }
    if (agreed) best = candidate;
  }
  return best;
}

TEST(RaftQuorum, CommittedIsWhatAMajorityOfEachSetHas) {
  SeededRng rng(1);
  for (int i = 0; i < 5000; ++i) {
    const Members members = random_members(rng);
    if (members.voters().empty() && members.outgoing().empty()) continue;
    std::map<MemberId, Index> match;
    for (uint64_t id = 1; id <= 7; ++id) match[{id}] = rng.below(10);
    EXPECT_EQ(committed_index(members, [&](MemberId id) { return match.at(id); }),
              naive_committed(members, match));
  }
}

TEST(RaftQuorum, AVoteIsWonByEachSetAndLostByEither) {
  SeededRng rng(2);
  for (int i = 0; i < 5000; ++i) {
    const Members members = random_members(rng);
    std::map<MemberId, std::optional<bool>> votes;
    for (uint64_t id = 1; id <= 7; ++id) {
      const uint64_t draw = rng.below(3);
      votes[{id}] = draw == 2 ? std::nullopt : std::optional(draw == 1);
    }
    bool won = true;
    bool lost = false;
    for (const auto& set : {members.voters(), members.outgoing()}) {
      if (set.empty()) continue;
      size_t yes = 0;
      size_t no = 0;
      for (const MemberId id : set) {
        yes += votes[id] == std::optional(true) ? 1 : 0;
        no += votes[id] == std::optional(false) ? 1 : 0;
      }
      won = won && yes * 2 > set.size();
      lost = lost || (set.size() - no) * 2 <= set.size();
    }
    const VoteResult result = vote_result(members, [&](MemberId id) { return votes[id]; });
    EXPECT_EQ(result, lost ? VoteResult::kLost : won ? VoteResult::kWon : VoteResult::kPending);
  }
}

TEST(RaftMembersCodec, WhatIsWrittenIsReadAndDamageIsNoticed) {
  SeededRng rng(3);
  for (int i = 0; i < 200; ++i) {
    const Members members = random_members(rng);
    const std::string bytes = encode_members(members);
    EXPECT_EQ(*decode_members(bytes), members);
    for (size_t cut = 0; cut < bytes.size(); ++cut) {
      EXPECT_FALSE(decode_members(std::string_view(bytes).substr(0, cut)));
    }
    EXPECT_FALSE(decode_members(bytes + "x"));
  }
  EXPECT_FALSE(decode_members(std::string(3, '\x02')));
}

Entry entry(Index index, Term term) {
  return {index, term, EntryKind::kData, std::make_shared<const std::string>("0123456789")};
}

TEST(RaftEntryLog, KeepsItsPlaceThroughCompactionAndCuts) {
  EntryLog log;
  for (Index i = 1; i <= 10; ++i) log.append(entry(i, 1 + i / 4));
  log.compact_to(4);
  EXPECT_EQ(log.first(), 5U);
  EXPECT_EQ(log.last(), 10U);
  EXPECT_EQ(log.term(4), 2U);  // of what was compacted last
  EXPECT_EQ(log.term(3), std::nullopt);
  EXPECT_EQ(log.term(11), std::nullopt);
  log.truncate_from(8);
  EXPECT_EQ(log.last(), 7U);
  log.compact_to(2);
  EXPECT_EQ(log.first(), 5U);
  log.compact_to(7);
  EXPECT_EQ(log.first(), 8U);
  EXPECT_EQ(log.last(), 7U);
  EXPECT_EQ(log.last_term(), 2U);
}

TEST(RaftEntryLog, ASliceHasAtLeastOneEntryAndEndsAtTheLimit) {
  EntryLog log;
  for (Index i = 1; i <= 5; ++i) log.append(entry(i, 1));
  EXPECT_EQ(log.slice(2, 5, 1).size(), 1U);
  EXPECT_EQ(log.slice(2, 5, 20).size(), 2U);
  EXPECT_EQ(log.slice(2, 3, 1000).size(), 2U);
  EXPECT_TRUE(log.slice(6, 9, 1000).empty());
}

TEST(RaftEntryLog, FindsTheLastEntryThatMayHaveATerm) {
  EntryLog log;
  const Term terms[] = {1, 1, 3, 3, 5};
  for (Index i = 1; i <= 5; ++i) log.append(entry(i, terms[i - 1]));
  EXPECT_EQ(log.last_with_term_up_to(9, 9), 5U);
  EXPECT_EQ(log.last_with_term_up_to(5, 4), 4U);
  EXPECT_EQ(log.last_with_term_up_to(5, 2), 2U);
  EXPECT_EQ(log.last_with_term_up_to(5, 0), 0U);
}

}  // namespace
}  // namespace muster::raft
