#pragma once

#include <sys/types.h>

#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "base/time.h"
#include "base/unique_fd.h"

namespace muster::agent {

struct SpawnRequest {
  std::vector<std::string> argv;  // argv[0] is the program's path
  std::vector<std::string> env;
  std::string dir;  // working directory; empty = ours
  // Descriptor here, number there. Everything else from 3 up is closed; 0-2 not named here become
  // /dev/null.
  std::vector<std::pair<int, int>> descriptors;
  bool new_session = false;
};

// posix_spawn(3) with default signal dispositions. Safe under threads and cheap with a large heap.
Result<pid_t> spawn(const SpawnRequest& request);

// Waits for the child; its exit code, 128+n for signal n.
Result<int> wait_exit(pid_t pid);

// A close-on-exec pipe: read end, write end.
Result<std::pair<UniqueFd, UniqueFd>> make_pipe();

// pidfd_open(2).
UniqueFd open_pidfd(int64_t pid);

// Looks in PATH's usual places; empty when not found.
std::string find_program(const std::string& name);

}  // namespace muster::agent
