#pragma once

#include <string>
#include <string_view>

#include "base/status.h"

namespace muster::agent {

// "SIGTERM", "term", "15", "SIGRTMIN+3" to the number. Empty gives SIGTERM.
Result<int> parse_signal(std::string_view text);
// "SIGKILL" for 9; "signal 70" for numbers without a name.
std::string signal_name(int signal);

}  // namespace muster::agent
