#pragma once

#include "muster/v1/objects.pb.h"

namespace muster::manager::control {

// Takes out what no reader may see: registry credentials, the root's key,
// payloads and where they are kept. A config's payload is put back where it is asked for.
void redact(v1::Service& service);
void redact(v1::Revision& revision);
void redact(v1::Cluster& cluster);
void redact(v1::Secret& secret);
void redact(v1::Config& config);

}  // namespace muster::manager::control
