#include "deploy/cli/confirm.h"

#include <unistd.h>

namespace muster::deploy::cli {

Result<bool> confirm(Run& run, bool force, const std::string& warning) {
  if (force) return true;
  run.out(fmt::format("WARNING! {}\nAre you sure you want to continue? [y/N] ", warning));
  char answer[64];
  // A pipe may answer too ("yes | muster volume prune").
  const ssize_t n = ::read(run.world.in_fd, answer, sizeof answer);
  if (n <= 0 && !run.world.in_is_terminal) {
    run.out("\n");
    return fail(usage_error("nobody to ask: say --force to go on without a question"));
  }
  return n > 0 && (answer[0] == 'y' || answer[0] == 'Y');
}

}  // namespace muster::deploy::cli
