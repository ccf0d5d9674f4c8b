#pragma once

#include "deploy/cli/run.h"

// The functions behind `muster lab ...`; commands.cc has their lines of help.
namespace muster::deploy::cli {

Result<int> lab_up(Run& run);
Result<int> lab_ls(Run& run);
Result<int> lab_ssh(Run& run);
Result<int> lab_start(Run& run);
Result<int> lab_stop(Run& run);
Result<int> lab_kill(Run& run);
Result<int> lab_pause(Run& run);
Result<int> lab_resume(Run& run);
Result<int> lab_partition(Run& run);
Result<int> lab_heal(Run& run);
Result<int> lab_logs(Run& run);
Result<int> lab_down(Run& run);
// Process 1 of a node; hidden.
Result<int> lab_init_node(Run& run);

}  // namespace muster::deploy::cli
