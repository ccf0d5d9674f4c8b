#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/unique_fd.h"

namespace muster::daemon {

// Which swarm this host is in. Absent outside of one.
struct Membership {
  std::string node_id;
  std::string cluster_id;
  std::string listen_addr;            // host:port
  std::string advertise_addr;         // host:port
  std::string data_path_addr;         // address; empty: as advertise_addr
  uint32_t data_path_port = 0;        // as managers said last; 0: they have not yet
  std::vector<std::string> managers;  // host:port, as last heard of

  // Of a manager: its place in the group of managers. An id is one life of one log; one whose log
  // is gone is never used again, since it may have voted and promised.
  uint64_t member_id = 0;
  bool log_begun = false;  // there has to be a log
  // Managers took this node out of the swarm: it waits to leave.
  bool removed = false;
};

// What musterd remembers of itself in <data-dir>/node.json, a versioned file.
struct NodeState {
  // Names this installation in everything global to the host (cgroups, namespaces, links, rules),
  // so that several musterd on one host never meet. 8 characters, made at the first start.
  std::string instance_id;
  std::optional<Membership> membership;
};

// Held for as long as the descriptor is open, also by a process that is killed: two musterd on one
// data directory would undo each other's work. FAILED_PRECONDITION when another one has it.
Result<UniqueFd> lock_data_dir(const std::filesystem::path& data_dir);

// A missing file gives a fresh state with a new instance id, which is saved. DATA_LOSS for a file
// that does not parse, FAILED_PRECONDITION for one of a newer version.
Result<NodeState> load_node_state(const std::filesystem::path& data_dir);
Status save_node_state(const std::filesystem::path& data_dir, const NodeState& state);

}  // namespace muster::daemon
