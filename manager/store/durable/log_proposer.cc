#include "manager/store/durable/log_proposer.h"

namespace muster::manager::store {
namespace {

ProposalOutcome convert(raft::Outcome outcome) {
  switch (outcome) {
    case raft::Outcome::kCommitted: return ProposalOutcome::kCommitted;
    case raft::Outcome::kRejected: return ProposalOutcome::kRejected;
    case raft::Outcome::kUnknown: break;
  }
  return ProposalOutcome::kUnknown;
}

}  // namespace

void LogProposer::propose(uint64_t term, std::string entry,
                          UniqueFunction<void(ProposalResult)> done) {
  log_.propose(term, std::move(entry),
               [done = std::move(done)](raft::ProposeResult result) mutable {
                 done({convert(result.outcome), result.index, std::move(result.why)});
               });
}

}  // namespace muster::manager::store
