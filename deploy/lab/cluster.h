#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "base/time.h"
#include "deploy/lab/plan.h"

// The swarm inside a lab, by the commands a user would type.
namespace muster::deploy::lab {

// A line of `node ls`.
struct ClusterNode {
  std::string hostname;
  std::string status;          // Ready, Down, Unknown
  std::string availability;    // Active, Pause, Drain
  std::string manager_status;  // Leader, Reachable, Unreachable; empty for a worker
};

inline constexpr std::string_view kNodeListFormat =
    "{{.Hostname}}|{{.Status}}|{{.Availability}}|{{.ManagerStatus}}";
// What `node ls --format kNodeListFormat` prints. Lines that are none are left out.
std::vector<ClusterNode> parse_node_list(std::string_view text);
// The line of a node. A host that joined again has several; one that is Ready is the one.
const ClusterNode* find_node(const std::vector<ClusterNode>& nodes, std::string_view hostname);

// "manager2 has not joined, worker1 is Down": what keeps the plan's nodes from being ready; empty
// when nothing does.
std::string not_ready(const LabPlan& plan, const std::vector<ClusterNode>& nodes);

// Runs `muster` against the musterd behind a socket and returns what it prints, without a closing
// line feed. A failure carries what it said on standard error. `cancelled` breaks it off.
Result<std::string> call_muster(const std::string& muster, const std::string& socket,
                                const std::vector<std::string>& words, Duration timeout,
                                const std::function<bool()>& cancelled = {});

}  // namespace muster::deploy::lab
