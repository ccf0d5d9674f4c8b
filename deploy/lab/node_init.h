#pragma once

#include <string>

#include "base/status.h"

namespace muster::deploy::lab {

// The program that is process 1 of a node (`muster lab init-node LAB-DIR NODE`), in namespaces made
// for it. It gives the node its name, its /proc, and its own /etc/hosts and /etc/resolv.conf (those
// of <lab>/<node>/etc where the machine has such files), then says "ready" on standard output, and
// from then on reaps. It ends by SIGKILL alone, and with it ends whatever is in the node:
// processes, mounts, interfaces. Returns only on failure.
Status run_node_init(const std::string& lab_dir, const std::string& node);

inline constexpr const char* kInitReady = "ready\n";

}  // namespace muster::deploy::lab
