#include "raft/core/quorum.h"

#include <algorithm>
#include <limits>

#include "raft/core/mutant.h"

namespace muster::raft {
namespace {

Index committed_by(const std::vector<MemberId>& voters,
                   const std::function<Index(MemberId)>& match) {
  if (voters.empty()) return std::numeric_limits<Index>::max();
  std::vector<Index> matches;
  matches.reserve(voters.size());
  for (const MemberId id : voters) matches.push_back(match(id));
  const size_t others =
      fault(Mutant::kMinorityCommits) ? (matches.size() - 1) / 2 : matches.size() / 2;
  const auto place = matches.begin() + static_cast<ptrdiff_t>(others);
  std::nth_element(matches.begin(), place, matches.end(), std::greater<>());
  return *place;
}

VoteResult voted_by(const std::vector<MemberId>& voters,
                    const std::function<std::optional<bool>(MemberId)>& vote) {
  size_t granted = 0;
  size_t missing = 0;
  for (const MemberId id : voters) {
    const std::optional<bool> said = vote(id);
    if (!said) ++missing;
    if (said && *said) ++granted;
  }
  const size_t more = fault(Mutant::kHalfElects) ? voters.size() % 2 : 1;
  const size_t needed = voters.empty() ? 0 : voters.size() / 2 + more;
  if (granted >= needed) return VoteResult::kWon;
  return granted + missing >= needed ? VoteResult::kPending : VoteResult::kLost;
}

}  // namespace

Index committed_index(const Members& members, const std::function<Index(MemberId)>& match) {
  if (fault(Mutant::kLearnersCommit)) {
    return committed_by(all_voting(members).voters(), match);
  }
  return std::min(committed_by(members.voters(), match), committed_by(members.outgoing(), match));
}

VoteResult vote_result(const Members& members,
                       const std::function<std::optional<bool>(MemberId)>& vote) {
  const VoteResult incoming = voted_by(members.voters(), vote);
  const VoteResult outgoing = voted_by(members.outgoing(), vote);
  if (incoming == VoteResult::kLost || outgoing == VoteResult::kLost) return VoteResult::kLost;
  return incoming == VoteResult::kWon ? outgoing : incoming;
}

Members all_voting(const Members& members) {
  Members all = members;
  for (Member& member : all.list) member.voter = true;
  return all;
}

bool is_quorum(const Members& members, const std::function<bool(MemberId)>& holds) {
  return vote_result(members, [&](MemberId id) { return std::optional(holds(id)); }) ==
         VoteResult::kWon;
}

}  // namespace muster::raft
