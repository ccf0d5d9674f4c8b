#pragma once

#include <map>
#include <string>
#include <vector>

#include "manager/store/snapshot.h"
#include "muster/v1/objects.pb.h"
#include "scheduler/constraint.h"

namespace muster::manager::orchestrator {

// Tasks that have to leave their node because it has come to offer less than is reserved on it,
// with the reason in words; by task id.
using Crowded = std::map<std::string, std::string, std::less<>>;

// The tasks that have to leave `node`, given what it offers now. The oldest stay: tasks are gone
// through in the order of their creation, and one whose reservations are not covered by what the
// ones before it have left leaves; so no more leave than have to, and among equals the newest.
// Tasks told to stop are not counted, nor is CPU or memory that the node does not report at all.
Crowded crowded_out(const store::Snapshot& state, const v1::Node& node);

// "node no longer satisfies constraint node.labels.disk == ssd: the label is absent", of the first
// constraint that does not hold; empty when all do.
std::string broken_constraint(const std::vector<scheduler::Constraint>& constraints,
                              const v1::Node& node);

// "the image is not built for linux/arm64"; empty when one of the platforms is the node's, when
// none is asked for, or when the node has not said what it is.
std::string wrong_platform(const v1::Placement& placement, const v1::Node& node);

}  // namespace muster::manager::orchestrator
