#pragma once

#include "base/time.h"
#include "manager/store/snapshot.h"
#include "muster/v1/control.pb.h"

namespace muster::manager::control {

// What the state says of a service's placement: every node with the first filter that turns it
// away, and every slot with why it is where it is, or why it is nowhere. Pure; goes through all
// tasks of the cluster.
//
// Nothing is guessed: why a scheduler of the past preferred one of several nodes is not stored, so
// for a task that has a node it says what the choice was between and how tasks are spread now.
v1::ExplainServiceResponse explain_service(const store::Snapshot& state, const v1::Service& service,
                                           WallTime now);

}  // namespace muster::manager::control
