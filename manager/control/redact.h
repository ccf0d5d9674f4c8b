#pragma once

#include "muster/v1/objects.pb.h"

namespace muster::manager::control {

// Takes out what no reader may see: registry credentials, the roots' keys, those of encrypted
// networks (which there are stays), the unlock key, which has a method of its own, payloads and
// where they are kept. Join tokens stay: whoever may use the control API administers the swarm,
// from elsewhere too (docs/certificates.md). A config's payload is put back where it is asked for.
void redact(v1::Service& service);
void redact(v1::Revision& revision);
void redact(v1::Cluster& cluster);
void redact(v1::Secret& secret);
void redact(v1::Config& config);

// Takes out what only an answer about this one task has room for: the outputs of its health checks,
// up to 20 KiB. What remains says whether it is healthy.
void drop_probes(v1::Task& task);

}  // namespace muster::manager::control
