#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "base/executor.h"
#include "manager/store/proposer.h"

namespace muster::manager::store {

// A log that commits by itself, in memory: in the next turn of the strand, or after `delay`; or
// refuses as many entries as it is told.
class InstantProposer final : public Proposer {
 public:
  explicit InstantProposer(Executor& strand) : strand_(strand) {}
  void propose(uint64_t, std::string, UniqueFunction<void(ProposalResult)> done) override {
    ProposalResult result{ProposalOutcome::kCommitted, 0, {}};
    if (rejections > 0) {
      --rejections;
      result = {ProposalOutcome::kRejected, 0,
                Status(StatusCode::kResourceExhausted, "the disk is full", "disk-full")};
    } else {
      result.index = ++index_;
    }
    auto answer = [done = std::move(done), result = std::move(result)]() mutable {
      done(std::move(result));
    };
    if (delay.count() > 0) {
      strand_.after(delay, std::move(answer));
    } else {
      strand_.post(std::move(answer));
    }
  }
  uint64_t leading_term() const override { return 1; }
  uint64_t entries() const { return index_; }  // committed

  int rejections = 0;
  Duration delay{0};

 private:
  Executor& strand_;
  uint64_t index_ = 0;
};

}  // namespace muster::manager::store
