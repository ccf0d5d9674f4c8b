#pragma once

#include <deque>

#include "raft/core/types.h"

namespace muster::raft {

// The part of the log after the last compaction, in memory. Arithmetic on indexes only; what of it
// is durable or committed is the core's business.
class EntryLog {
 public:
  EntryLog() = default;
  // Empty, after the entry (index, term).
  EntryLog(Index index, Term term) : base_index_(index), base_term_(term) {}

  Index first() const { return base_index_ + 1; }
  Index last() const { return base_index_ + entries_.size(); }
  Term last_term() const { return entries_.empty() ? base_term_ : entries_.back().term; }
  // Known for first() - 1 up to last().
  std::optional<Term> term(Index index) const;
  bool matches(Index index, Term entry_term) const { return term(index) == entry_term; }
  const Entry& at(Index index) const;

  // From `from` on, at least one entry if there is one, up to about `bytes_max` of payload.
  std::vector<Entry> slice(Index from, Index to, size_t bytes_max) const;
  // The largest index up to `index` whose term is at most `entry_term`; first() - 1 when none is
  // known. What is skipped cannot match an entry of that term (raft.md: conflicts by whole terms).
  Index last_with_term_up_to(Index index, Term entry_term) const;

  void append(Entry entry);         // its index must be last() + 1
  void truncate_from(Index index);  // drops it and everything after it
  void compact_to(Index index);     // forgets entries up to and with it; no effect below first()

 private:
  Index base_index_ = 0;
  Term base_term_ = 0;
  std::deque<Entry> entries_;
};

}  // namespace muster::raft
