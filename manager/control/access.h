#pragma once

#include <string_view>
#include <vector>

#include "base/security/principal.h"
#include "base/status.h"

namespace muster::manager::control {

// Who may call a method. The local socket's file mode decides who reaches it, so any local user
// who does is trusted as an operator, as with Docker's.
enum class Access {
  kOperator,  // a local user
  kManager,   // a local user, or another manager on behalf of one
  kNode,      // a node with a certificate of this cluster
};

struct AccessRule {
  std::string_view method;  // the full name, "muster.v1.Control.CreateService"
  Access access;
};

// The one table. Every method of every service is in it; one that is not is refused.
const std::vector<AccessRule>& access_table();

// OK, or PERMISSION_DENIED / UNAUTHENTICATED for the caller.
Status check_access(std::string_view method, const security::Principal& principal);

}  // namespace muster::manager::control
