#include "raft/core/message.h"

namespace muster::raft {

std::string_view to_string(MessageKind kind) {
  switch (kind) {
    case MessageKind::kAppend: return "append";
    case MessageKind::kAppendReply: return "append-reply";
    case MessageKind::kHeartbeat: return "heartbeat";
    case MessageKind::kHeartbeatReply: return "heartbeat-reply";
    case MessageKind::kPreVote: return "pre-vote";
    case MessageKind::kPreVoteReply: return "pre-vote-reply";
    case MessageKind::kVote: return "vote";
    case MessageKind::kVoteReply: return "vote-reply";
    case MessageKind::kSnapshot: return "snapshot";
    case MessageKind::kTimeoutNow: return "timeout-now";
  }
  return "unknown";
}

bool well_formed(const Message& message) {
  if (!message.from || !message.to) return false;
  Index index = message.prev_index;
  Term term = message.prev_term;
  for (const Entry& entry : message.entries) {
    if (entry.index != ++index || entry.term < term || entry.term > message.term) return false;
    if (entry.kind == EntryKind::kMembers && !decode_members(entry.bytes())) return false;
    term = entry.term;
  }
  return message.kind == MessageKind::kAppend || message.entries.empty();
}

}  // namespace muster::raft
