#pragma once

#include "tests/bench/report.h"

namespace muster::bench {

// One node, from request to running containers: create, scale, update, memory, and what survives a
// kill. Needs root; starts a musterd of its own. With --peer the same work is done by dockerd in
// swarm mode, when the package docker.io is installed (tests/bench/deploy_peer.sh).
Status run_deploy_suite(const SuiteOptions& options, Report& report);

}  // namespace muster::bench
