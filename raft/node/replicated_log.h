#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"
#include "base/unique_function.h"

namespace muster::raft {

enum class Outcome {
  kCommitted,  // durable on a quorum
  kRejected,   // certainly not in the log, now or later
  kUnknown,    // it may or may not turn up in the log
};

struct ProposeResult {
  Outcome outcome = Outcome::kUnknown;
  uint64_t index = 0;  // when committed
  Status why;          // when not
};

// A log of bytes that a quorum of members agrees on, as its users see it. Lives on its user's
// strand: propose() is called there and `done` arrives there, never from inside propose(), exactly
// once unless the log is destroyed first.
class ReplicatedLog {
 public:
  virtual ~ReplicatedLog() = default;

  // Rejected when this member does not lead `term`.
  virtual void propose(uint64_t term, std::string payload,
                       UniqueFunction<void(ProposeResult)> done) = 0;
  // 0 when this member does not lead.
  virtual uint64_t leading_term() const = 0;
};

}  // namespace muster::raft
