#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "raft/core/core.h"

namespace muster::raft {

// One member, number 1, whose peers and disk are the test. Time stands still unless it is moved.
class OneCore : public ::testing::Test {
 protected:
  static constexpr MemberId kSelf{1};

  static Member voter(uint64_t id) {
    return {.id = {id}, .node_id = fmt::format("n{}", id), .address = "", .voter = true};
  }
  static Member learner(uint64_t id) {
    return {.id = {id}, .node_id = fmt::format("n{}", id), .address = ""};
  }
  static Members group(uint64_t voters) {
    Members members;
    for (uint64_t i = 1; i <= voters; ++i) members.put(voter(i));
    return members;
  }
  static Entry data(Index index, Term term, const std::string& text = "x") {
    return {index, term, EntryKind::kData, std::make_shared<const std::string>(text)};
  }
  static std::vector<Entry> log_of(const std::vector<Term>& terms) {
    std::vector<Entry> entries;
    for (const Term term : terms) entries.push_back(data(entries.size() + 1, term));
    return entries;
  }

  void start(uint64_t voters, Restored restored = {}) {
    core_ = std::make_unique<Core>(tuning_, kSelf, std::move(restored), group(voters), rng_, now_);
    take();
  }
  Core& core() { return *core_; }

  // The output of what happened; `held_` keeps steps from the disk until flush().
  Output take() {
    Output out = core_->take();
    for (const Write& write : out.writes) tokens_.push_back(write.token);
    if (out.restore) core_->applied(now_, out.restore->index);
    if (!out.apply.empty()) core_->applied(now_, out.apply.back().index);
    if (!held_) flush();
    core_->check_invariants();
    return out;
  }
  void flush() {
    if (tokens_.empty()) return;
    const uint64_t token = tokens_.back();
    tokens_.clear();
    core_->written(now_, token);
  }
  // Everything that leaves until nothing more does.
  std::vector<Message> messages() {
    std::vector<Message> all;
    while (core_->has_output()) {
      Output out = take();
      all.insert(all.end(), out.messages.begin(), out.messages.end());
      for (const ReadGrant& grant : out.reads) reads_.push_back(grant);
    }
    return all;
  }
  std::vector<Message> step(Message message) {
    message.to = kSelf;
    core_->step(now_, std::move(message));
    return messages();
  }

  static Message from(uint64_t id, MessageKind kind, Term term) {
    Message message;
    message.kind = kind;
    message.from = {id};
    message.term = term;
    return message;
  }
  static Message append(uint64_t id, Term term, Index prev, Term prev_term,
                        std::vector<Entry> entries, Index commit = 0) {
    Message message = from(id, MessageKind::kAppend, term);
    message.prev_index = prev;
    message.prev_term = prev_term;
    message.entries = std::move(entries);
    message.commit = commit;
    return message;
  }
  static Message ack(uint64_t id, Term term, Index index) {
    Message message = from(id, MessageKind::kAppendReply, term);
    message.index = index;
    return message;
  }
  static Message vote(uint64_t id, Term term, Index last, Term last_term, bool pre = false) {
    Message message = from(id, pre ? MessageKind::kPreVote : MessageKind::kVote, term);
    message.prev_index = last;
    message.prev_term = last_term;
    return message;
  }

  // Times out, and is granted all votes.
  void lead() {
    elapse(2 * tuning_.election_min);
    core_->tick(now_);
    messages();
    for (const auto kind : {MessageKind::kPreVoteReply, MessageKind::kVoteReply}) {
      for (const Member& member : core_->members().list) {
        if (member.id == kSelf || core_->role() == Role::kLeader) continue;
        const Term asked = core_->term() + (kind == MessageKind::kPreVoteReply ? 1 : 0);
        step(from(member.id.value, kind, asked));
      }
    }
    ASSERT_EQ(core_->role(), Role::kLeader);
    messages();
  }
  void elapse(Duration d) { now_ = now_ + d; }

  Tuning tuning_;
  SeededRng rng_{7};
  TimePoint now_;
  bool held_ = false;
  std::vector<uint64_t> tokens_;
  std::vector<ReadGrant> reads_;
  std::unique_ptr<Core> core_;
};

inline std::vector<Message> only(const std::vector<Message>& all, MessageKind kind) {
  std::vector<Message> out;
  for (const Message& message : all) {
    if (message.kind == kind) out.push_back(message);
  }
  return out;
}

}  // namespace muster::raft
