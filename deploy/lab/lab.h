#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/process.h"
#include "base/status.h"
#include "deploy/lab/cluster.h"
#include "deploy/lab/lab_files.h"
#include "deploy/lab/lab_state.h"
#include "deploy/lab/processes.h"

namespace muster::deploy::lab {

// What a lab's commands need of their caller.
struct LabContext {
  std::string base = kDefaultBase;
  std::string muster;                         // this program, absolute
  std::function<void(std::string_view)> say;  // one line of progress; may be empty
  std::function<bool()> cancelled;            // asked while waiting; may be empty
};

// A node as it is.
struct NodeView {
  NodePlan plan;
  // running, paused; killed and stopped (by a command), ended (by itself); off (nothing of it runs)
  std::string state;
  int64_t pid = 0;  // of musterd, or of the registry's server; 0 = none
  std::string cut_off_from;
  std::optional<ClusterNode> cluster;  // as the managers know it, if one answers
};

// One lab. Commands on it exclude one another across processes (lock_lab); reading does not wait.
// Every step can be broken off at any moment, by kill -9 too: `start` completes what is there and
// tear_down() removes it.
class Lab {
 public:
  // Plans a lab and notes it down; nothing runs yet. ALREADY_EXISTS, INVALID_ARGUMENT,
  // RESOURCE_EXHAUSTED, PERMISSION_DENIED (not root), NOT_FOUND (a program is missing).
  static Result<Lab> create(LabContext context, const LabWish& wish);
  // To look only.
  static Result<Lab> open(LabContext context, const std::string& name);
  // To change it.
  static Result<Lab> open_locked(LabContext context, const std::string& name);
  const LabFiles& files() const { return files_; }
  const LabState& state() const { return state_; }

  // Starts all nodes, makes them one swarm, and waits until all are ready.
  Status bring_up();

  // Removes the lab; nothing else may be called afterwards.
  Status tear_down();

  // These take the names of nodes and stop at the first that fails.
  Status start(const std::vector<std::string>& nodes);
  Status stop(const std::vector<std::string>& nodes);
  Status kill(const std::vector<std::string>& nodes, bool all_processes);
  Status pause(const std::vector<std::string>& nodes);
  Status resume(const std::vector<std::string>& nodes);

  // Nodes separated by commas; without `b`, `a` is cut off from all other nodes.
  Status cut(const std::string& a, const std::optional<std::string>& b, bool one_way, Cut kind);
  // Without `a`, all cuts; without `b`, all of `a`. Returns how many there were.
  Result<size_t> heal(const std::optional<std::string>& a, const std::optional<std::string>& b);

  std::vector<NodeView> view() const;
  // Asks the managers and fills in what they say.
  void ask_cluster(std::vector<NodeView>& nodes) const;

  // Starts a program inside a node with MUSTER_SOCKET set; no words start a shell. `shell` is what
  // the user has for one.
  Result<Process> enter(const std::string& node, std::vector<std::string> words,
                        const std::string& shell) const;
  Result<NodePlan> find(const std::string& node) const;
  // musterd, or the registry's server. FAILED_PRECONDITION when it does not run.
  Result<Held> need_process(const NodePlan& node) const;

 private:
  Lab(LabContext context, LabFiles files)
      : context_(std::move(context)), files_(std::move(files)) {}

  void say(std::string_view line) const;
  Status save() { return save_state(files_, state_); }
  bool cancelled() const { return context_.cancelled && context_.cancelled(); }
  // Polls until `done` says true or fails.
  Status await(std::string_view what, Duration patience,
               const std::function<Result<bool>()>& done) const;

  Status reserve(const LabWish& wish);
  Status power_on_hub();
  Status power_on(const NodePlan& node);
  Status start_registry(const InitProcess& hub);
  Status start_musterd(const NodePlan& node, const InitProcess& init);
  // Until the node's server answers; says how it ended if it does.
  Status await_up(const NodePlan& node, const std::function<bool()>& answers) const;
  Status await_registry() const;
  Status await_musterd(const NodePlan& node) const;
  Status form_swarm();
  Status join(const NodePlan& node, const std::string& token, const std::string& remote) const;
  Status await_ready() const;

  // The process that matters in a node: musterd, or the registry's server.
  std::optional<Held> main_process(const NodePlan& node) const;
  Status apply_to(const std::vector<std::string>& nodes) const;

  LabContext context_;
  LabFiles files_;
  LabState state_;
  UniqueFd lock_;
};

// Removes everything of the lab, whatever there is of it. NOT_FOUND when there is nothing.
Status tear_down(const LabContext& context, const std::string& name);

}  // namespace muster::deploy::lab
