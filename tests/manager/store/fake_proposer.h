#pragma once

#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "manager/store/proposer.h"

namespace muster::manager::store {

// A log that a test answers by hand, entry by entry.
class FakeProposer final : public Proposer {
 public:
  void propose(uint64_t term, std::string entry,
               UniqueFunction<void(ProposalResult)> done) override {
    terms.push_back(term);
    entries.push_back(std::move(entry));
    pending_.push_back(std::move(done));
  }
  uint64_t leading_term() const override { return term; }

  size_t pending() const { return pending_.size(); }
  void commit() { answer({ProposalOutcome::kCommitted, ++index, {}}); }
  void reject(Status why) { answer({ProposalOutcome::kRejected, 0, std::move(why)}); }
  void lose() {
    term = 0;
    answer({ProposalOutcome::kUnknown, 0, {}});
  }
  void answer(ProposalResult result) {
    auto done = std::move(pending_.front());
    pending_.pop_front();
    done(std::move(result));
  }

  uint64_t term = 7;
  uint64_t index = 100;  // of the last entry committed; the log holds others' entries too
  std::vector<std::string> entries;
  std::vector<uint64_t> terms;

 private:
  std::deque<UniqueFunction<void(ProposalResult)>> pending_;
};

}  // namespace muster::manager::store
