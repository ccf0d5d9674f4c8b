#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "overlay/ipam/ip.h"

// What a lab will look like, worked out before anything is made. Pure.
namespace muster::deploy::lab {

enum class Role { kRegistry, kManager, kWorker };
std::string_view to_string(Role role);
Result<Role> parse_role(std::string_view text);

// What is asked for.
struct LabWish {
  std::string name = "lab";
  int managers = 1;
  int workers = 0;
  bool nat = false;       // a way out of the lab through the host
  std::string log_level;  // of the nodes' musterd; empty = its own default
  std::string musterd;    // the program, absolute
};

// The switch that joins all nodes carries the registry too: every lab has one, under this name.
inline constexpr std::string_view kHub = "registry";
inline constexpr uint16_t kRegistryPort = 5000;
inline constexpr uint16_t kSwarmPort = 2377;

struct NodePlan {
  std::string name;
  Role role = Role::kWorker;
  overlay::Ip address;
};

struct LabPlan {
  std::string name;
  overlay::Prefix subnet;
  std::vector<NodePlan> nodes;  // the hub first, then managers, then workers

  overlay::Ip host_address() const;  // the host's own in the lab
  std::string registry() const;      // host:port
  const NodePlan* find(std::string_view node) const;
};

// A lab's name is part of host names, paths and tables: a-z, 0-9 and "-", 20 at most.
Status check_lab_name(std::string_view name);
// INVALID_ARGUMENT when the wish cannot be had on any machine.
Status check_wish(const LabWish& wish);
// RESOURCE_EXHAUSTED when the nodes would not fit into what is free.
Status check_memory(const LabWish& wish, uint64_t available_bytes);

// The first of 10.213.0.0/24 to 10.254.0.0/24 that meets none of `taken`: far from where swarms
// begin to number their networks (10.0.0.0). RESOURCE_EXHAUSTED when there is none.
Result<overlay::Prefix> choose_subnet(const std::vector<overlay::Prefix>& taken);

LabPlan make_plan(const LabWish& wish, const overlay::Prefix& subnet);

// The text of a node's /etc/hosts: every node by its name, in the lab and under "<name>.<lab>".
std::string hosts_file(const LabPlan& plan, std::string_view node);
// The text of a node's /etc/resolv.conf, from the host's. Resolvers on the host's loopback cannot
// be reached from a node, and without a way out none can.
std::string resolv_conf(std::string_view of_host, bool nat);

}  // namespace muster::deploy::lab
