#pragma once

#include <map>
#include <string>
#include <string_view>

#include "base/status.h"
#include "deploy/lab/cuts.h"
#include "deploy/lab/plan.h"

namespace muster::deploy::lab {

// What a lab remembers of itself in <lab>/lab.json, a versioned file. Only what was wanted: which
// processes run, and whether, is asked of the kernel, which is never out of date.
struct LabState {
  LabPlan plan;
  bool nat = false;
  bool ip_forward_set = false;  // by us, to be taken back
  std::string log_level;
  std::string musterd;
  Cuts cuts;
  std::map<std::string, std::string> ended;  // node -> "killed" or "stopped", by a command of ours
};

std::string encode_state(const LabState& state);
// DATA_LOSS for text that is no state, FAILED_PRECONDITION for one of a newer version.
Result<LabState> decode_state(std::string_view text);

}  // namespace muster::deploy::lab
