#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace muster::overlay {

// Kernel settings under /proc/sys. Those of net.* belong to the network namespace of the calling
// thread.

// `key` has dots or slashes ("net.ipv4.ip_forward", "net/ipv4/conf/eth0.7/forwarding"); with
// slashes, dots are part of names. INVALID_ARGUMENT for a key that leads elsewhere.
Status write_sysctl(std::string_view key, std::string_view value);
// Without the closing line feed.
Result<std::string> read_sysctl(std::string_view key);

// Whether the kernel has IPv6 at all.
bool kernel_has_ipv6();

// Lets the host forward IPv6. A host that does no longer accepts router advertisements, and would
// lose its own default route, unless told to.
Status forward_ipv6();
// Lets the host forward where it no longer does (what an administrator or a package loads into the
// kernel's settings says so, often years later), and adds a sentence to `said`; or to `failed`
// where it cannot be mended.
void keep_forwarding(bool v6, std::vector<std::string>& said, std::vector<std::string>& failed);

}  // namespace muster::overlay
