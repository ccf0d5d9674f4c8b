#pragma once

#include <compare>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace muster::raft {

using Term = uint64_t;   // 0: before the first election
using Index = uint64_t;  // of log entries, from 1

// A member of the group for as long as it belongs to it. Chosen at random when it joins and never
// used again: who comes back with an empty disk is somebody else.
struct MemberId {
  uint64_t value = 0;  // 0: nobody

  explicit operator bool() const { return value != 0; }
  friend auto operator<=>(const MemberId&, const MemberId&) = default;
};

struct Member {
  MemberId id;
  std::string node_id;  // what its certificate must say
  std::string address;  // host:port
  bool voter = false;   // counts for elections and commits; else a learner
  // Voted before the joint change that is under way, and must agree to it.
  bool outgoing = false;

  friend bool operator==(const Member&, const Member&) = default;
};

// The whole group as one membership entry states it, sorted by id. Takes effect when the entry is
// appended.
struct Members {
  std::vector<Member> list;

  const Member* find(MemberId id) const;
  bool is_voter(MemberId id) const;    // in either set
  bool is_learner(MemberId id) const;  // a member that votes in neither
  bool joint() const;                  // a change from one set of voters to another is under way
  std::vector<MemberId> voters() const;
  std::vector<MemberId> outgoing() const;
  void put(Member member);  // keeps the order; replaces one with the same id
  void remove(MemberId id);

  friend bool operator==(const Members&, const Members&) = default;
};

// The payload of a membership entry, and back. DATA_LOSS when the bytes are none.
std::string encode_members(const Members& members);
Result<Members> decode_members(std::string_view bytes);

enum class EntryKind : uint8_t {
  kEmpty = 0,    // the beginning of a leader's term
  kData = 1,     // a proposal
  kMembers = 2,  // encode_members()
};

// Entries are shared between the log, messages and writes; a payload is never changed.
struct Entry {
  Index index = 0;
  Term term = 0;
  EntryKind kind = EntryKind::kEmpty;
  std::shared_ptr<const std::string> payload;  // null = empty

  std::string_view bytes() const {
    return payload ? std::string_view(*payload) : std::string_view();
  }
  friend bool operator==(const Entry& a, const Entry& b) {
    return a.index == b.index && a.term == b.term && a.kind == b.kind && a.bytes() == b.bytes();
  }
};

// What must not be forgotten between two lives; written in one piece.
struct HardState {
  Term term = 0;
  MemberId vote;

  friend bool operator==(const HardState&, const HardState&) = default;
};

// What a snapshot stands for: the state after `index`, and the group as of there.
struct SnapshotMark {
  Index index = 0;  // 0: none
  Term term = 0;
  Members members;

  friend bool operator==(const SnapshotMark&, const SnapshotMark&) = default;
};

enum class Role : uint8_t { kFollower, kPreCandidate, kCandidate, kLeader };
std::string_view to_string(Role role);

}  // namespace muster::raft
