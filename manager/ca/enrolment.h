#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/security/join_token.h"
#include "base/security/key_files.h"
#include "base/security/unlock_key.h"
#include "base/status.h"
#include "base/time.h"
#include "muster/v1/ca.pb.h"

// What a host makes of managers' answers when it joins or renews: rules without state or network
// (grpc/ca_client.h asks).
namespace muster::manager::ca {

struct Issued {
  security::NodeCredentials credentials;  // checked: certificate, key, trust and time fit together
  std::string node_id;
  std::string cluster_id;
  bool manager = false;
  std::vector<std::string> manager_addrs;
  // What a manager's keys are wrapped with; none without autolock.
  std::optional<security::UnlockKey> lock;
};

// What a manager answered to a request with this key, after every check.
Result<Issued> accept(v1::IssueCertificateResponse response, const std::string& key_pem,
                      WallTime now);

// The root that the token means, out of the mouth of a manager nobody has vouched for.
// UNAUTHENTICATED, reason "other-root", when it is another one.
Result<std::string> pinned_root(const v1::GetRootCertificateResponse& response,
                                const security::JoinToken& token, WallTime now);

}  // namespace muster::manager::ca
