#pragma once

#include "base/status.h"
#include "manager/store/snapshot.h"
#include "muster/v1/specs.pb.h"

namespace muster::manager::control {

// Fills in ids and names of the secrets and configs a container refers to: by id, which must have
// the name given with it, if one is; else by exact name. INVALID_ARGUMENT "secrets not found: a, b"
// names all that are missing. Pure.
Status resolve_payloads(const store::Snapshot& state, v1::ContainerSpec& container);

// INVALID_ARGUMENT naming the services whose spec refers to it, or whose unfinished update may go
// back to a spec that does.
Status check_unused(const store::Snapshot& state, const v1::Secret& secret);
Status check_unused(const store::Snapshot& state, const v1::Config& config);

}  // namespace muster::manager::control
