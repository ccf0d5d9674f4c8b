#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "muster/v1/objects.pb.h"
#include "scheduler/constraint.h"

namespace muster::scheduler {

// Dense numbers for nodes, services and shapes inside one ClusterState. Reused once free, so they
// mean something only together with the state that gave them out.
using NodeIndex = uint32_t;
using ServiceIndex = uint32_t;
using ShapeIndex = uint32_t;
inline constexpr uint32_t kNoIndex = UINT32_MAX;

// A host-mode port: protocol in the upper half, number in the lower.
using HostPort = uint32_t;
HostPort host_port(v1::PortConfig::Protocol protocol, uint32_t port);
std::string to_string(HostPort port);  // "80/tcp"

struct GenericNeed {
  std::string kind;
  int64_t count = 0;
};

// What placement has to know of a task, taken out of its revision once: all tasks of one
// (service, revision) share it.
struct TaskShape {
  std::string service_id;
  uint64_t revision = 0;

  int64_t nano_cpus = 0;
  int64_t memory_bytes = 0;
  std::vector<GenericNeed> generics;

  std::vector<Constraint> constraints;
  std::string bad_constraint;  // why one does not parse; such a task fits no node

  std::vector<std::string> spread;  // known descriptors, outermost first
  std::vector<v1::Platform> platforms;
  uint64_t max_replicas = 0;  // per node; 0 = unlimited
  std::vector<HostPort> host_ports;

  std::vector<std::string> volume_drivers;  // other than the built-in one
  std::string log_driver;                   // empty when every node has it
  std::vector<std::string> networks;        // ids
  bool in_mesh = false;                     // publishes a port through the ingress network
  bool cluster_volumes = false;  // mounts of a kind this version cannot provide on any node

  bool reserves() const { return nano_cpus != 0 || memory_bytes != 0 || !generics.empty(); }
};
TaskShape shape_of(const v1::Revision& revision);

}  // namespace muster::scheduler
