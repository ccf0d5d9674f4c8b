#pragma once

#include <span>
#include <string_view>

#include "base/security/principal.h"
#include "base/status.h"

namespace muster::manager::control {

// Who may call a method.
enum class Access {
  kAnyone,     // even without a certificate
  kLocalUser,  // the local socket
  kManager,    // the local socket, or a node with a manager's certificate
  kNode,       // any node with a certificate of this cluster
};

struct AccessRule {
  std::string_view method;  // "muster.v1.Control.CreateService"
  Access access;
};

// The one table; a test proves that it names every method of every service.
std::span<const AccessRule> access_table();

// PERMISSION_DENIED, saying who may, unless the caller may call the method. A method that is not in
// the table is open to nobody.
Status check_access(std::string_view method, const security::Principal& caller);

}  // namespace muster::manager::control
