#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "deploy/cli/flags.h"
#include "deploy/cli/run.h"

// Waiting for services to become what their specs say.
namespace muster::deploy::cli {

// What is known of one service while waiting for it. Fed from lists and watch events.
struct ServiceView {
  v1::Service service;
  bool removed = false;
  // Failures of tasks last written at this store version or before are an older story.
  uint64_t since_version = 0;
  std::map<std::string, v1::Task> tasks;  // by id
};

// One line of the progress: a slot or a node.
struct SlotProgress {
  std::string label;  // "1/5" or the node's name
  v1::TaskState state = v1::TASK_NEW;
  std::string text;  // "running", or "preparing: pulling image" or the error
};

struct Assessment {
  uint64_t done = 0;
  uint64_t wanted = 0;
  bool converged = false;
  bool job = false;            // done and wanted count completions
  uint64_t active = 0;         // of a job: tasks under way
  uint64_t active_wanted = 0;  // of a job: how many may be, with what is left to do
  bool rolled_back = false;    // the update failed, and the previous spec is back
  bool updating = false;       // the manager still watches an update
  std::string going_back;      // why a rollback is under way
  std::vector<SlotProgress> slots;
  std::string blocked;          // why something cannot run now; may pass
  std::string failure;          // why it will not come to be: certain
  std::set<std::string> notes;  // what is wrong although the tasks run
};

// Pure: state in, opinion out. `node_names` are the nodes that count, by id, with their hostnames.
// A service is certain to fail when its update was paused, when the restart policy has given up a
// slot, or when kFailuresCertain attempts of one slot at the present revision have failed.
// A job is certain to fail when the manager says that a slot is given up, or when an endless
// restart policy has seen as many failures of one slot.
inline constexpr int kFailuresCertain = 3;
inline constexpr size_t kSlotLinesMax = 20;
Assessment assess(const ServiceView& view, const std::map<std::string, std::string>& node_names);
// The part of it that is about jobs.
void assess_job(const ServiceView& view, const std::map<std::string, std::string>& node_names,
                Assessment* result);

struct WaitOptions {
  bool detach = false;
  bool quiet = false;
  std::optional<std::string> monitor;  // --monitor; else the service's update monitor
  void declare(Flags& flags);
  Status check() const;
};

// Shows progress until all services have converged and stayed so for the monitor period, one of
// them is certain to fail, or the user ends the waiting. A blocked service ("no suitable node")
// is waited for 10 s, then counts as failed; muster goes on trying. The exit code.
Result<int> wait_for_services(Run& run, const std::vector<v1::Service>& services,
                              const WaitOptions& options, Signals& signals);

}  // namespace muster::deploy::cli
