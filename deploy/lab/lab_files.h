#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "base/unique_fd.h"
#include "deploy/lab/lab_state.h"

namespace muster::deploy::lab {

inline constexpr const char* kDefaultBase = "/var/lib/muster-lab";

// Where the files of a lab are: <base>/<name>/lab.json, and per node <base>/<name>/<node>/.
struct LabFiles {
  std::string base;
  std::string name;

  std::string dir() const { return base + "/" + name; }
  std::string state() const { return dir() + "/lab.json"; }
  std::string node(const std::string& node) const { return dir() + "/" + node; }
  std::string etc(const std::string& node) const { return this->node(node) + "/etc"; }
  std::string data(const std::string& node) const { return this->node(node) + "/data"; }
  std::string run(const std::string& node) const { return this->node(node) + "/run"; }
  std::string socket(const std::string& node) const { return run(node) + "/muster.sock"; }
  std::string log(const std::string& node) const { return this->node(node) + "/log"; }
  // Of the node's server: musterd, or the registry.
  std::string config(const std::string& node) const {
    return this->node(node) + (node == kHub ? "/registry.yml" : "/musterd.yaml");
  }
  std::string cgroup() const { return "/muster-lab-" + name; }
};

// The labs whose folders are below `base`, sorted.
std::vector<std::string> list_labs(const std::string& base);

// NOT_FOUND for a lab that is not there. DATA_LOSS or FAILED_PRECONDITION for a state that cannot
// be read, with the way out of it.
Result<LabState> load_state(const LabFiles& files);
Status save_state(const LabFiles& files, const LabState& state);

// Makes the base where it is missing and keeps others from planning meanwhile, so that two labs
// never choose one subnet.
Result<UniqueFd> lock_base(const std::string& base);
// Held by every command that changes a lab; goes with its process, however that ends. Waits for
// another one for a while. NOT_FOUND when the lab is not there, or goes meanwhile.
Result<UniqueFd> lock_lab(const LabFiles& files);

// Socket paths have to fit into 107 bytes. INVALID_ARGUMENT.
Status check_paths(const LabFiles& files);

}  // namespace muster::deploy::lab
