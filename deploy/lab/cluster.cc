#include "deploy/lab/cluster.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "base/process.h"
#include "deploy/lab/node_space.h"

namespace muster::deploy::lab {
namespace {

void trim(std::string& text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
}

}  // namespace

std::vector<ClusterNode> parse_node_list(std::string_view text) {
  std::vector<ClusterNode> out;
  while (!text.empty()) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    std::vector<std::string> cells;
    for (bool more = true; more;) {
      const size_t bar = line.find('|');
      more = bar != std::string_view::npos;
      cells.emplace_back(line.substr(0, bar));
      if (more) line.remove_prefix(bar + 1);
    }
    if (cells.size() == 4) out.push_back({cells[0], cells[1], cells[2], cells[3]});
  }
  return out;
}

const ClusterNode* find_node(const std::vector<ClusterNode>& nodes, std::string_view hostname) {
  const ClusterNode* found = nullptr;
  for (const ClusterNode& node : nodes) {
    if (node.hostname != hostname) continue;
    if (found == nullptr || node.status == "Ready") found = &node;
  }
  return found;
}

std::string not_ready(const LabPlan& plan, const std::vector<ClusterNode>& nodes) {
  std::vector<std::string> why;
  for (const NodePlan& node : plan.nodes) {
    if (node.role == Role::kRegistry) continue;
    const ClusterNode* found = find_node(nodes, node.name);
    const bool manages = node.role == Role::kManager;
    if (found == nullptr) {
      why.push_back(fmt::format("{} has not joined", node.name));
    } else if (found->status != "Ready") {
      why.push_back(fmt::format("{} is {}", node.name, found->status));
    } else if (manages && found->manager_status != "Leader" &&
               found->manager_status != "Reachable") {
      why.push_back(fmt::format("{} is {} manager", node.name,
                                found->manager_status.empty() ? "no" : "an unreachable"));
    }
  }
  return fmt::format("{}", fmt::join(why, ", "));
}

Result<std::string> call_muster(const std::string& muster, const std::string& socket,
                                const std::vector<std::string>& words, Duration timeout,
                                const std::function<bool()>& cancelled) {
  ProcessOptions options;
  options.argv = {muster, "--socket", "unix://" + socket};
  options.argv.insert(options.argv.end(), words.begin(), words.end());
  options.env = clean_environment({});
  RunOptions run;
  run.timeout = timeout;
  run.cancelled = cancelled;
  auto ran = run_process(options, run);
  if (!ran && ran.error().code() == StatusCode::kCancelled)
    return fail(Status(StatusCode::kCancelled, "broken off"));
  if (!ran) return fail(ran.error());
  RunResult result = *std::move(ran);
  trim(result.out);
  trim(result.err);
  if (result.exit.success()) return result.out;
  constexpr std::string_view kPrefix = "muster: ";
  if (result.err.starts_with(kPrefix)) result.err.erase(0, kPrefix.size());
  return fail(internal_error("{}", result.err.empty() ? result.exit.to_string() : result.err));
}

}  // namespace muster::deploy::lab
