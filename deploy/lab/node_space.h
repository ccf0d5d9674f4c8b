#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/process.h"
#include "base/status.h"
#include "deploy/lab/processes.h"

// A node's namespaces: process ids, mounts, network, host name. They live exactly as long as the
// node's process 1.
namespace muster::deploy::lab {

// Starts process 1 of a node, which outlives us, and waits until its world is furnished. Moves it
// out of our cgroup into `cgroup` ("/muster-lab-NAME") where we are in one. `muster` is the program
// whose `lab init-node` it is.
Result<InitProcess> create_node(const std::string& muster, const std::string& lab_dir,
                                const std::string& node, const std::string& cgroup);

// Runs `work` on a thread of its own in the node's network.
Status in_network_of(const InitProcess& init, const std::function<Status()>& work);

// Starts a program inside as our child.
Result<Process> spawn_inside(const InitProcess& init, ProcessOptions options);

// Starts a program inside that outlives us: a child of the node's process 1, with its output
// appended to `log`. Whether it comes up is another matter; the log says why not.
Status launch_inside(const InitProcess& init, std::vector<std::string> argv,
                     const std::string& log);
// Moves the program into `cgroup`, as create_node does.
Status adopt(const Held& process, const std::string& cgroup);

// Our environment without what would change the meaning of a node's configuration.
std::vector<std::string> clean_environment(const std::map<std::string, std::string>& extra);

}  // namespace muster::deploy::lab
