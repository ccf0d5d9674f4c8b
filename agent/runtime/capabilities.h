#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace muster::agent {

// Docker's rule: the default set plus `add` minus `drop`; "ALL" in either means every capability
// the host has (`available`, bit n = capability n). With "ALL" added, `drop` still removes; with
// "ALL" dropped, what `add` names remains. Names with or without "CAP_", any case. Default
// capabilities that the host lacks are left out silently, an added one that it lacks is
// FAILED_PRECONDITION, an unknown one INVALID_ARGUMENT. Sorted by number, "CAP_CHOWN" form.
Result<std::vector<std::string>> effective_capabilities(const std::vector<std::string>& add,
                                                        const std::vector<std::string>& drop,
                                                        bool privileged, uint64_t available);

}  // namespace muster::agent
