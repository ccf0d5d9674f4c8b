// What must hold between events, and a number that stands for the whole state.
#include "base/check.h"
#include "raft/core/core.h"

namespace muster::raft {

void Core::check_invariants() const {
  MUSTER_CHECK(applied_ <= handed_out_ && handed_out_ <= commit_ && commit_ <= log_.last());
  MUSTER_CHECK(durable_ <= log_.last());
  MUSTER_CHECK(log_.last_term() <= hard_state_.term);
  MUSTER_CHECK(snapshot_.index + 1 >= log_.first());
  MUSTER_CHECK(members_.begin()->first == log_.first() - 1);
  MUSTER_CHECK(members_.rbegin()->first <= log_.last());
  for (auto entry = std::next(members_.begin()); entry != members_.end(); ++entry) {
    MUSTER_CHECK(log_.at(entry->first).kind == EntryKind::kMembers);
  }
  for (size_t i = 1; i < outstanding_.size(); ++i) {
    MUSTER_CHECK(outstanding_[i - 1].token < outstanding_[i].token);
  }
  if (role_ != Role::kLeader) {
    MUSTER_CHECK(progress_.empty() && !transfer_target_ && !round_under_way_);
    return;
  }
  MUSTER_CHECK(leader_ == self_ && hard_state_.vote == self_);
  MUSTER_CHECK(log_.term(own_term_index_) == hard_state_.term || own_term_index_ < log_.first());
  for (const auto& [id, progress] : progress_) {
    if (id == self_) continue;
    MUSTER_CHECK(progress.match() < progress.next() && progress.next() <= log_.last() + 1);
    MUSTER_CHECK(progress.inflight_messages() <= tuning_.window.messages);
  }
}

namespace {

// FNV-1a over numbers.
class Digest {
 public:
  void add(uint64_t value) {
    for (int i = 0; i < 8; ++i) {
      hash_ = (hash_ ^ (value >> (8 * i) & 0xff)) * 0x100000001b3;
    }
  }
  void add(std::string_view text) {
    add(text.size());
    for (const char c : text) hash_ = (hash_ ^ static_cast<uint8_t>(c)) * 0x100000001b3;
  }
  uint64_t value() const { return hash_; }

 private:
  uint64_t hash_ = 0xcbf29ce484222325;
};

}  // namespace

uint64_t Core::digest() const {
  Digest digest;
  digest.add(hard_state_.term);
  digest.add(hard_state_.vote.value);
  digest.add(static_cast<uint64_t>(role_));
  digest.add(leader_.value);
  digest.add(commit_);
  digest.add(applied_);
  digest.add(durable_);
  digest.add(snapshot_.index);
  for (Index i = log_.first(); i <= log_.last(); ++i) {
    digest.add(log_.at(i).term);
    digest.add(static_cast<uint64_t>(log_.at(i).kind));
    digest.add(log_.at(i).bytes());
  }
  for (const auto& [id, progress] : progress_) {
    digest.add(id.value);
    digest.add(static_cast<uint64_t>(progress.state()));
    digest.add(progress.match());
    digest.add(progress.next());
  }
  return digest.value();
}

}  // namespace muster::raft
