#pragma once

#include "raft/core/types.h"

namespace muster::raft {

enum class MessageKind : uint8_t {
  kAppend,          // leader: entries after (prev_index, prev_term), and how far is committed
  kAppendReply,     // index: what the sender durably has in common, or with `reject` the hint
  kHeartbeat,       // leader: commit (never above what it knows the receiver has), read round
  kHeartbeatReply,  // echoes the read round; index
  kPreVote,         // would you vote for me in `term`? Changes nothing on either side
  kPreVoteReply,    // granted: of the asked-for term; refused: of the sender's own
  kVote,
  kVoteReply,
  kSnapshot,    // leader: the log before first() is gone; `snapshot` stands for it
  kTimeoutNow,  // leader: campaign at once, you take over
};
std::string_view to_string(MessageKind kind);

// One message between members. Fields that a kind does not name are at their defaults.
struct Message {
  MessageKind kind = MessageKind::kHeartbeat;
  MemberId from;
  MemberId to;
  Term term = 0;

  Index prev_index = 0;  // kAppend; votes: the sender's last entry; rejection: what did not fit
  Term prev_term = 0;
  std::vector<Entry> entries;  // kAppend
  Index commit = 0;            // kAppend, kHeartbeat
  // kAppendReply: acknowledged, or the hint of a rejection. kHeartbeatReply: what the sender knows
  // to be committed, which says nothing of its disk.
  Index index = 0;
  Term hint_term = 0;       // rejection: the term of the entry at the hint
  bool reject = false;      // replies
  bool transfer = false;    // kVote: the leader asked for it, so its lease does not count
  uint64_t read_round = 0;  // kHeartbeat and its reply
  SnapshotMark snapshot;    // kSnapshot

  friend bool operator==(const Message&, const Message&) = default;
};

// Whether the entries follow each other and the previous one, and carry terms that can be. What a
// transport hands over is checked with it; a message that fails is dropped.
bool well_formed(const Message& message);

}  // namespace muster::raft
