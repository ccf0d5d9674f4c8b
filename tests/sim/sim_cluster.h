#pragma once

#include <cstdint>

#include "base/status.h"
#include "tests/sim/sim_options.h"
#include "tests/sim/sim_probes.h"

namespace muster::sim {

struct ClusterOutcome {
  uint64_t state_hash = 0;  // of every object before the last clean-up
  uint64_t commits = 0;
  uint64_t managers = 0;  // lives of managers
  uint64_t terms = 0;     // leaders that worked
  uint64_t operations = 0;
  Probes probes;
};

// One, three or five managers with everything in them (raft core and driver, store, control API,
// allocator, orchestrator, scheduler, dispatcher), unchanged, over simulated disks and lanes, and
// five nodes with real sessions and simulated containers, in virtual time and from one seed.
//
// A client creates, updates, scales and removes services and networks, drains, pauses and labels
// nodes, repeating what it got no certain answer to under its request id. Meanwhile agents are
// killed, restarted, cut off and rebooted, hosts lose and regain memory, containers fail and end,
// and managers are killed and started again from their logs, cut off from each other in both
// directions or in one, made to hand over, stopped in the middle of their work or in order, demoted
// and promoted; their disks are slow, silent, full or lost, their clocks run wrong and step, and
// what they say to each other is lost or arrives twice. Then a majority heals and must have a
// leader that takes changes; then everything heals, a leader must be found, and the cluster has to
// converge; at last everything is removed.
//
// Checked all the time: all managers go through the same changes; a term has one leader; states
// only grow; a slot has one task that is meant to run (two while a
// start-first step replaces it); updates and moves together take no more running tasks away than
// the parallelism allows; what is told to leave a node is told why; no two containers of one slot
// run at once unless the policies allow it; no address and no host port is used twice. Checked at
// the end: the services are those the client was told of; no task is where it does not fit; each
// slot runs, was given up by its restart policy, or says why not; hosts run what the store says and
// nothing else; network feeds name the members; history is bounded; no revision is left without a
// user; and after the clean-up every address and port can be given out again. INTERNAL says which
// rule broke and when.
Result<ClusterOutcome> run_cluster(uint64_t seed, const ClusterOptions& options = {});

// What of options.troubles this seed may have.
Troubles troubles_of(uint64_t seed, const ClusterOptions& options);

}  // namespace muster::sim
