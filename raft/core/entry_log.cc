#include "raft/core/entry_log.h"

#include <algorithm>

#include "base/check.h"

namespace muster::raft {

std::optional<Term> EntryLog::term(Index index) const {
  if (index == base_index_) return base_term_;
  if (index < base_index_ || index > last()) return std::nullopt;
  return at(index).term;
}

const Entry& EntryLog::at(Index index) const {
  MUSTER_CHECK(index >= first() && index <= last());
  return entries_[index - first()];
}

std::vector<Entry> EntryLog::slice(Index from, Index to, size_t bytes_max) const {
  std::vector<Entry> out;
  size_t bytes = 0;
  for (Index i = std::max(from, first()); i <= std::min(to, last()); ++i) {
    const Entry& entry = at(i);
    bytes += entry.bytes().size();
    if (!out.empty() && bytes > bytes_max) break;
    out.push_back(entry);
  }
  return out;
}

Index EntryLog::last_with_term_up_to(Index index, Term entry_term) const {
  Index i = std::min(index, last());
  while (i >= first() && at(i).term > entry_term) --i;
  return i;
}

void EntryLog::append(Entry entry) {
  MUSTER_CHECK(entry.index == last() + 1 && entry.term >= last_term());
  entries_.push_back(std::move(entry));
}

void EntryLog::truncate_from(Index index) {
  MUSTER_CHECK(index >= first());
  if (index <= last()) entries_.resize(index - first());
}

void EntryLog::compact_to(Index index) {
  if (index < first()) return;
  MUSTER_CHECK(index <= last());
  base_term_ = at(index).term;
  entries_.erase(entries_.begin(), entries_.begin() + static_cast<ptrdiff_t>(index + 1 - first()));
  base_index_ = index;
}

}  // namespace muster::raft
