#pragma once

#include <functional>
#include <string>

#include "base/status.h"
#include "deploy/daemon/options.h"

namespace muster::daemon {

// `musterd netd --run-dir DIR ...`: holds the resolvers of this node's containers
// (overlay/dns/netd) until it is told to end. Returns the exit code.
int netd_main(int argc, char** argv);

// Names the file of the program that runs: after an upgrade there is another one at its path.
std::string program_build();

// What starts such a process for an instance, in a cgroup and a session of its own, and returns
// once it can be talked to. It runs the program that runs now, by its path: after an upgrade the
// new one.
Result<std::function<Status(bool take_over)>> netd_launcher(const Options& options,
                                                            const std::string& instance_id);

}  // namespace muster::daemon
