#pragma once

#include <memory>

#include "agent/doctor/host_tests.h"

namespace muster::agent {

// The real ones. To be made, and called, by threads in the host's network namespace.
std::unique_ptr<HostTests> make_linux_host_tests();

}  // namespace muster::agent
