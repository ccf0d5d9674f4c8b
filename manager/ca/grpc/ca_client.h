#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/security/tls_identity.h"
#include "base/status.h"
#include "base/time.h"
#include "manager/ca/enrolment.h"
#include "muster/v1/ca.pb.h"

// How a host gets its certificates from the swarm's managers. Blocking: for threads that may wait,
// never for a strand. Every call ends within its limit.
namespace muster::manager::ca {

struct JoinRequest {
  std::vector<std::string> addresses;  // of managers, tried in this order
  std::string join_token;
  // Made for this join by security::generate_key(). A join that is repeated with the same key is
  // the same node.
  std::string key_pem;
  v1::NodeSpec::Availability availability = v1::NodeSpec::ACTIVE;
  std::string hostname;
  std::string advertise_address;  // host:port, of a manager to be
};

// Fetches the root from a manager nobody has vouched for, goes on only if its digest is the
// token's, and has the key signed by a manager that this root vouches for; follows to the leader.
// One pass over the addresses. What a manager says about the token or the request is final;
// INVALID_ARGUMENT "invalid join token" before anything is sent when it is malformed; UNAVAILABLE
// when no address led to a leader, with what each of them came to.
Result<Issued> join_swarm(const JoinRequest& request, WallTime now, Duration limit);

// A new certificate for a new key, by the present one. UNAUTHENTICATED without asking anybody when
// that one has expired (reason "certificate-expired") or is not valid yet ("clock-skew").
Result<Issued> renew_certificate(const security::TlsIdentity& identity,
                                 const std::vector<std::string>& addresses, WallTime now,
                                 Duration limit);

}  // namespace muster::manager::ca
