// What leaves the core: messages now or when durable, steps for the disk, entries to apply.
#include <algorithm>

#include "raft/core/core.h"
#include "raft/core/mutant.h"

namespace muster::raft {

Message Core::to(MemberId member, MessageKind kind) const {
  Message message;
  message.kind = kind;
  message.from = self_;
  message.to = member;
  message.term = hard_state_.term;
  return message;
}

void Core::send(Message message) {
  messages_.push_back(std::move(message));
}

void Core::send_when_durable(Message message) {
  const bool ack = message.kind == MessageKind::kAppendReply;
  if ((ack && fault(Mutant::kAckBeforeDisk)) ||
      (!ack && message.to != self_ && fault(Mutant::kVoteBeforeDisk))) {
    return send(std::move(message));
  }
  when_durable_.push_back(std::move(message));
}

bool Core::has_output() const {
  const RoleChange present{role_, hard_state_.term, leader_};
  return hard_state_dirty_ || install_ || unwritten_from_ != 0 || !when_durable_.empty() ||
         !messages_.empty() || restore_ || !reads_.empty() || !(present == told_) ||
         (applied_ >= handed_out_ && commit_ > handed_out_);
}

Output Core::take() {
  Output out;
  Write write;
  if (hard_state_dirty_) write.hard_state = hard_state_;
  write.install = std::exchange(install_, std::nullopt);
  if (unwritten_from_ != 0) {
    write.entries = log_.slice(unwritten_from_, log_.last(), SIZE_MAX);
  }
  hard_state_dirty_ = false;
  unwritten_from_ = 0;
  if (!write.nothing()) {
    write.token = ++last_token_;
    outstanding_.push_back({write.token, log_.last(), std::move(when_durable_)});
    out.writes.push_back(std::move(write));
  } else if (!when_durable_.empty()) {
    // Nothing new to store: what they rest on is with the last step under way, or stored.
    auto& waiting = outstanding_.empty() ? messages_ : outstanding_.back().messages;
    std::move(when_durable_.begin(), when_durable_.end(), std::back_inserter(waiting));
  }
  when_durable_.clear();
  out.messages = std::exchange(messages_, {});
  out.restore = std::exchange(restore_, std::nullopt);
  if (applied_ >= handed_out_ && commit_ > handed_out_) {
    out.apply = log_.slice(handed_out_ + 1, commit_, tuning_.apply_bytes_max);
    handed_out_ = out.apply.back().index;
  }
  out.reads = std::exchange(reads_, {});
  const RoleChange present{role_, hard_state_.term, leader_};
  if (!(present == told_)) out.role = told_ = present;
  return out;
}

void Core::written(TimePoint now, uint64_t token) {
  while (!outstanding_.empty() && outstanding_.front().token <= token) {
    Outstanding done = std::move(outstanding_.front());
    outstanding_.pop_front();
    durable_ = std::max(durable_, done.durable_to);
    for (Message& message : done.messages) {
      // What was promised in an older term may have been replaced on the disk since.
      if (message.term < hard_state_.term) continue;
      if (message.to == self_) {
        step(now, std::move(message));
      } else {
        send(std::move(message));
      }
    }
  }
  if (role_ == Role::kLeader) advance_commit(now);
}

}  // namespace muster::raft
