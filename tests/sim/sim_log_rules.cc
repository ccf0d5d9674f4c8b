#include "tests/sim/sim_log_rules.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <set>
#include <vector>

#include "raft/core/quorum.h"

namespace muster::sim {

using raft::Entry;
using raft::Index;
using raft::MemberId;
using raft::Message;
using raft::MessageKind;
using raft::Term;

namespace {

uint64_t hash_of(const Entry& entry) {
  uint64_t value = 14695981039346656037U + static_cast<uint64_t>(entry.kind);
  for (const char c : entry.bytes()) {
    value = (value ^ static_cast<unsigned char>(c)) * 1099511628211U;
  }
  return value;
}

// Of the entry at `index`, when the disk has it in its log.
std::optional<Term> term_at(const RaftImage& log, Index index) {
  if (index <= log.base_index || index > log.last()) return std::nullopt;
  return log.entries[index - log.base_index - 1].term;
}

}  // namespace

void SimLogRules::on_message(const Message& message) {
  switch (message.kind) {
    case MessageKind::kAppend: return on_append(message);
    case MessageKind::kAppendReply: return on_append_reply(message);
    case MessageKind::kVoteReply: return on_vote(message);
    default: return;
  }
}

void SimLogRules::on_append(const Message& message) {
  led_[{message.term, message.prev_index}] = message.prev_term;
  Term previous = message.prev_term;
  for (const Entry& entry : message.entries) {
    led_[{message.term, entry.index}] = entry.term;
    const uint64_t hash = hash_of(entry);
    const auto [known, fresh] =
        entries_.try_emplace(std::pair(entry.index, entry.term), Stored{previous, hash});
    if (!fresh && (known->second.hash != hash || known->second.previous != previous)) {
      broken_(
          fmt::format("entry {} of term {} differs between members (R4)", entry.index, entry.term));
    }
    previous = entry.term;
  }
}

void SimLogRules::on_append_reply(const Message& message) {
  const LogImage* image = image_of_(message.from);
  if (message.reject || message.index == 0 || image == nullptr) return;
  std::pair<Term, Index>& newest = acknowledged_[message.from];
  newest = std::max(newest, std::pair(message.term, message.index));
  if (image->log.snapshot.index >= message.index) return;
  const auto said = led_.find({message.term, message.index});
  const std::optional<Term> has = term_at(image->log, message.index);
  if (!has || (said != led_.end() && said->second != *has)) {
    broken_(fmt::format("member {} acknowledged entry {}, which is not on its disk (R7)",
                        message.from.value, message.index));
  }
}

void SimLogRules::on_vote(const Message& message) {
  if (message.reject) return;
  const auto [known, fresh] = votes_.try_emplace(std::pair(message.from, message.term), message.to);
  if (!fresh && known->second != message.to) {
    broken_(fmt::format("member {} voted twice in term {} (R2)", message.from.value, message.term));
  }
  const LogImage* image = image_of_(message.from);
  if (image == nullptr) return;
  const raft::HardState& state = image->log.hard_state;
  if (state.term < message.term || (state.term == message.term && state.vote != message.to)) {
    broken_(fmt::format("the vote of member {} in term {} is not on its disk (R7)",
                        message.from.value, message.term));
  }
}

void SimLogRules::on_durable(MemberId id, const LogImage& image) {
  Term& term = durable_terms_[id];
  if (image.log.hard_state.term < term) {
    broken_(fmt::format("the term on the disk of member {} went back from {} to {} (R3)", id.value,
                        term, image.log.hard_state.term));
  }
  term = image.log.hard_state.term;
  const auto told = acknowledged_.find(id);
  if (told == acknowledged_.end() || told->second.first != term) return;
  if (std::max(image.log.last(), image.log.snapshot.index) < told->second.second) {
    broken_(fmt::format("member {} acknowledged entry {} in term {} and has it no more (R7)",
                        id.value, told->second.second, term));
  }
}

void SimLogRules::on_new_commit(Index index, const std::vector<raft::Members>& groups) {
  std::set<Term> terms;
  bool unknown = groups.empty();
  for (const raft::Members& group : groups) {
    for (const raft::Member& member : group.list) {
      const LogImage* image = image_of_(member.id);
      const auto term = image == nullptr ? std::nullopt : term_at(image->log, index);
      if (term) terms.insert(*term);
      // Its disk is lost since, or its log begins later: then it cannot be told.
      unknown = unknown || image == nullptr || (!term && image->log.snapshot.index >= index);
    }
  }
  if (unknown) return;
  for (const Term term : terms) {
    const auto holds = [&](MemberId id) {
      const LogImage* image = image_of_(id);
      return image != nullptr && image->log.holds(index, term);
    };
    if (std::any_of(groups.begin(), groups.end(),
                    [&](const raft::Members& group) { return raft::is_quorum(group, holds); })) {
      return;
    }
  }
  broken_(fmt::format("entry {} is committed without a quorum of disks (R8)", index));
}

}  // namespace muster::sim
