#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/security/principal.h"
#include "base/status.h"

namespace muster::security {

// Who may call a method. The local socket's file mode decides who reaches it, so any local user
// who does is trusted as an operator, as with Docker's.
enum class Access {
  kAnyone,    // a caller without a certificate, too: what joiners need before they have one
  kOperator,  // a local user
  kManager,   // a local user, or whoever holds a client's certificate or a manager's
  // As kManager, but no client. Whoever holds a client's certificate administers the swarm, join
  // tokens and unlock key included, as with one of Docker's; but he does not outlast it unseen: a
  // node that joins by a token is in the list, a further certificate is in none, and a backup has
  // the root's key in it.
  kGrant,
  kPeer,  // a manager's certificate: what managers do among themselves
  kNode,  // a node with a certificate of this cluster
};

struct AccessRule {
  std::string_view method;  // the full name, "muster.v1.Control.CreateService"
  Access access;
};

// The one table. Every method of every service is in it; one that is not is refused.
const std::vector<AccessRule>& access_table();

// The method's rule; nullptr when there is none.
const AccessRule* access_rule(std::string_view method);

// OK, or PERMISSION_DENIED / UNAUTHENTICATED for the caller.
Status check_access(std::string_view method, const Principal& principal);

// "muster.v1.Control.CreateService" of the path "/muster.v1.Control/CreateService"; empty when it
// is no such path.
std::string method_of_path(std::string_view path);

// Stands before every method of a TLS server. Called from any thread, once for each call, with the
// full name of the method; what is not OK ends the call with that status before a handler sees it.
using CallGate = std::function<Status(std::string_view method, const Principal& caller)>;

}  // namespace muster::security
