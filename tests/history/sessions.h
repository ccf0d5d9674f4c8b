#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/history/history.h"

namespace muster::history {

struct SessionsVerdict {
  std::string violation;  // empty = none
  uint64_t checked = 0;   // plain reads that were judged
};

// What is promised of plain reads, which each manager answers from its own copy: a client that asks
// the same manager again sees nothing older than what that manager has shown it or has acknowledged
// to it. Every client does one thing after another.
SessionsVerdict check_sessions(const std::vector<Operation>& history);

}  // namespace muster::history
