#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "deploy/lab/cuts.h"
#include "deploy/lab/plan.h"
#include "deploy/lab/processes.h"
#include "overlay/ipam/ip.h"

// The lab's network in the kernel: a bridge in the hub's namespace, a cable from it to each node
// and one to the host. Everything is idempotent. All of it goes with the hub's process 1, but for
// the rules of a way out, which are the host's.
namespace muster::deploy::lab {

// What this host's addresses and routes occupy.
Result<std::vector<overlay::Prefix>> taken_prefixes();

// The hub's bridge with the registry's address, and the host's cable.
Status lay_hub(const LabPlan& plan, const InitProcess& hub);
// A cable from the hub to a node, as its eth0.
Status lay_cable(const LabPlan& plan, const InitProcess& hub, const InitProcess& node, bool nat);
// Puts the cuts of the node into force, and takes former ones out.
Status apply_cuts(const LabPlan& plan, const Cuts& cuts, const InitProcess& node);

// Whether the host passes packets on.
Result<bool> host_forwards();
// Lets nodes reach what the host reaches, by masquerading, and lets the host pass packets on.
Status open_way_out(const LabPlan& plan);
Status close_way_out(const std::string& lab, bool take_ip_forward_back);

// Removes the host's interface of the lab, which else goes a moment after the hub.
Status remove_host_cable(const std::string& lab);

}  // namespace muster::deploy::lab
