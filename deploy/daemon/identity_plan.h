#pragma once

#include <string>

#include "base/security/tls_identity.h"
#include "base/status.h"
#include "base/time.h"
#include "muster/v1/dispatcher.pb.h"

namespace muster::daemon {

// What is to be done about a node's certificate, from what it is and what the managers say. Pure.
struct IdentityPlan {
  enum class Renewal {
    kNone,
    kSpread,  // everybody has to: not all at once
    kNow,
  };
  Renewal renewal = Renewal::kNone;
  // What to trust from now on; empty: as before.
  std::string trust_root_pem;
  // Why the certificate is renewed, for the log.
  std::string why;

  friend bool operator==(const IdentityPlan&, const IdentityPlan&) = default;
};

IdentityPlan plan_identity(const security::TlsIdentity::Current& current,
                           const v1::ClusterFeed& feed);

// How long to wait after a renewal that failed, when this manager could not sign its own
// certificate either: `usual`, unless it has no copy of the state yet (`own` is UNAVAILABLE), which
// it may have soon.
Duration wait_after(const Status& own, Duration usual);

// What the node tells of it.
v1::TlsInfo describe_identity(const security::TlsIdentity::Current& current);

}  // namespace muster::daemon
