#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"
#include "base/unique_function.h"

namespace muster::manager::store {

// How a proposal ended.
enum class ProposalOutcome {
  kCommitted,  // durable on a quorum, `index` is its place in the log
  kRejected,   // certainly not in the log, now or later; `why` says the reason
  kUnknown,    // leadership was lost under way: it may or may not turn up in the log
};

struct ProposalResult {
  ProposalOutcome outcome = ProposalOutcome::kUnknown;
  uint64_t index = 0;
  Status why;
};

// The store's whole dependency on the replicated log. Lives on the store's strand: propose() is
// called there and callbacks arrive there, never from inside propose().
class Proposer {
 public:
  virtual ~Proposer() = default;

  // Proposes one entry in `term`, which must be the term this member leads; a member that does not
  // lead it (any more) answers kRejected. The callback runs exactly once, unless the Proposer is
  // destroyed first. When it runs with kCommitted, the entry has not been applied to the store: a
  // leader's store applies what it proposed itself, from the transaction it still holds.
  virtual void propose(uint64_t term, std::string entry,
                       UniqueFunction<void(ProposalResult)> done) = 0;

  // The term this member leads now; 0 when it does not lead.
  virtual uint64_t leading_term() const = 0;
};

}  // namespace muster::manager::store
