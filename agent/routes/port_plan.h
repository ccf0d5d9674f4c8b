#pragma once

#include <string>
#include <vector>

#include "muster/v1/netd.pb.h"
#include "overlay/dataplane/node_network.h"

namespace muster::agent {

// The ports of this node's tasks and those that the managers tell of, which lead to tasks of other
// nodes: the managers' word on where and how a port answers is newer than a task's. One that is
// local leads to this node's tasks alone. Pure.
std::vector<overlay::PublishedPort> merge_ports(std::vector<overlay::PublishedPort> own,
                                                std::vector<overlay::PublishedPort> far);

// A relay of netd for a published port.
struct PortRelay {
  v1::NetdRelay relay;
  v1::PortConfig port;
  // It only adds ::1 to what the kernel does: that somebody else listens there is told, but the
  // port answers everywhere else, and ends no task.
  bool loopback = false;
};

// Who does what for the ports of this node: the kernel leads connections, netd relays those to ::1,
// from where nothing can be led elsewhere, and those that get a header.
struct PortPlan {
  std::vector<overlay::PublishedPort> kernel;
  std::vector<PortRelay> relays;  // sorted by id
};

// `masquerade`: what ports mean that do not say whose address the task sees. Pure.
PortPlan plan_ports(const std::vector<overlay::PublishedPort>& ports, bool masquerade);

}  // namespace muster::agent
