#pragma once

#include "muster/v1/objects.pb.h"

namespace muster::manager::control {

// Takes out what no reader may see: registry credentials, the root's key,
// secret payloads.
void redact(v1::Service& service);
void redact(v1::Revision& revision);
void redact(v1::Cluster& cluster);
void redact(v1::Secret& secret);

}  // namespace muster::manager::control
