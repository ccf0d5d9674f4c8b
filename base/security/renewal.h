#pragma once

#include "base/rng.h"
#include "base/security/x509.h"
#include "base/status.h"
#include "base/time.h"

// When a node's certificate is to be renewed: rules without state.
namespace muster::security {

// A random point at 50-80 % of the time between its making and its end, so that nodes which joined
// together do not renew together. Draw once a certificate. May be in the past: then it is due.
WallTime renewal_due(const CertificateFacts& certificate, Rng& rng);

// How long to wait after the `failures`th failure (1 or more) in a row: 5 s, twice as long each
// time, 1 h at most, less by up to a fifth at random. Near the end it is a sixteenth of what is
// left, 5 s at least, so that a short certificate does not end between two attempts.
Duration renewal_retry(const CertificateFacts& certificate, WallTime now, unsigned failures,
                       Rng& rng);

// How long to wait when all nodes are to renew at once because the root is rotated: up to 3 s for
// each 100 nodes, within a minute.
Duration renewal_spread(uint64_t nodes, Rng& rng);

// OK, or UNAUTHENTICATED: reason "certificate-expired" (only leaving and joining again helps), or
// "clock-skew" when it is not valid yet by this host's clock.
Status check_validity(const CertificateFacts& certificate, WallTime now);

}  // namespace muster::security
