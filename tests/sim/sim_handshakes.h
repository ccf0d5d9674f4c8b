#pragma once

#include <map>
#include <string>
#include <utility>

#include "base/security/principal.h"
#include "tests/sim/sim_identity.h"

namespace muster::sim {

// Who takes whose certificate, as TLS 1.3 with certificates on both sides decides it: by what the
// other trusts, at the other's clock. Verified for real; what cannot have changed is remembered.
class SimHandshakes {
 public:
  // UNAUTHENTICATED; where it is a matter of time the reason says so.
  Status verify(const SimIdentity& whose, const SimIdentity& by);
  // A connection from `client` to a manager: each takes the other's, and the server is a manager of
  // the same swarm. Who the server takes the client for.
  Result<security::Principal> connect(const SimIdentity& client, const SimIdentity& server);

 private:
  struct Known {
    uint64_t whose = 0;  // generations
    uint64_t by = 0;
    WallTime from;
    WallTime until;
    Status status;
  };
  std::map<std::pair<const SimIdentity*, const SimIdentity*>, Known> known_;
};

security::Principal principal_of(const security::CertificateFacts& facts);
// Whether a handshake failed because of somebody's clock, or because a certificate has ended.
bool is_about_time(const Status& status);

}  // namespace muster::sim
