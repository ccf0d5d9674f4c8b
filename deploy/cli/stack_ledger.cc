#include "deploy/cli/stack_ledger.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace muster::deploy::cli {

void StackLedger::done(const std::string& step) {
  for (Step& known : steps_) {
    if (known.name != step || known.done) continue;
    known.done = true;
    return;
  }
  steps_.push_back({step, true});
}

Status StackLedger::stopped(const Status& why) const {
  std::vector<std::string> done, left;
  for (const Step& step : steps_) (step.done ? done : left).push_back(step.name);
  if (done.empty()) return why;
  return Status(why.code(),
                fmt::format("{}; stack {} is deployed in part (done: {}; not done: {})",
                            why.message(), stack_, fmt::join(done, ", "), fmt::join(left, ", ")),
                why.reason());
}

}  // namespace muster::deploy::cli
