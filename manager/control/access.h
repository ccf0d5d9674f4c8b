#pragma once

#include "base/security/access.h"

namespace muster::manager::control {

using security::Access;
using security::access_table;
using security::AccessRule;
using security::check_access;

}  // namespace muster::manager::control
