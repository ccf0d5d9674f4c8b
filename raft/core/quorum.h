#pragma once

#include <functional>
#include <optional>

#include "raft/core/types.h"

namespace muster::raft {

enum class VoteResult { kPending, kWon, kLost };

// Decisions of a majority of the voters and, while a joint change is under way, of a majority of
// the outgoing ones too (Ongaro, dissertation, section 4.3). A set of nobody agrees to everything.

// The highest index that a quorum has: `match` tells what a member has.
Index committed_index(const Members& members, const std::function<Index(MemberId)>& match);

// `vote` tells how a member voted; nothing as long as it has not.
VoteResult vote_result(const Members& members,
                       const std::function<std::optional<bool>(MemberId)>& vote);

// The group if learners voted too: what the faults of mutant.h take it for.
Members all_voting(const Members& members);

// Whether those of whom `holds` is true are a quorum.
bool is_quorum(const Members& members, const std::function<bool(MemberId)>& holds);

}  // namespace muster::raft
