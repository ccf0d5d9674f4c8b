#include "tests/history/sessions.h"

#include <fmt/format.h>

#include <map>
#include <tuple>

namespace muster::history {
namespace {

// The oldest that may be seen still, and by what that is known.
struct Floor {
  uint64_t version = 0;
  const Operation* by = nullptr;
};

}  // namespace

SessionsVerdict check_sessions(const std::vector<Operation>& history) {
  SessionsVerdict verdict;
  std::map<std::tuple<uint64_t, std::string, std::string>, Floor> floors;
  for (const Operation& op : history) {
    if (op.outcome != Outcome::kOk || op.kind == Kind::kRead) continue;
    Floor& floor = floors[{op.client, op.manager, op.key}];
    if (op.kind == Kind::kPlain) {
      ++verdict.checked;
      if (op.version < floor.version) {
        verdict.violation =
            fmt::format("older than what was known: the {}\n  after the {}", describe(op),
                        floor.by == nullptr ? "beginning" : describe(*floor.by));
        return verdict;
      }
    }
    // What was removed is not seen again; what comes after it has a later version.
    const uint64_t version = op.kind == Kind::kRemove ? floor.version + 1 : op.version;
    if (version >= floor.version) floor = {version, &op};
  }
  return verdict;
}

}  // namespace muster::history
