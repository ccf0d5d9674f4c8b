#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "manager/store/proposer.h"
#include "raft/node/replicated_log.h"

namespace muster::manager::store {

// The store's port over a replicated log. Same strand as both.
class LogProposer final : public Proposer {
 public:
  // Does not own `log`.
  explicit LogProposer(raft::ReplicatedLog& log) : log_(log) {}

  void propose(uint64_t term, std::string entry,
               UniqueFunction<void(ProposalResult)> done) override;
  uint64_t leading_term() const override { return log_.leading_term(); }

 private:
  raft::ReplicatedLog& log_;
};

}  // namespace muster::manager::store
