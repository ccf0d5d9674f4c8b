#pragma once

#include <string>

#include "base/log.h"
#include "base/status.h"
#include "base/unique_fd.h"

namespace muster::overlay::dns {

// A Unix socket of the type (SOCK_STREAM, SOCK_SEQPACKET) that root alone may connect to,
// non-blocking. Replaces one that a former process left at the path.
Result<UniqueFd> listen_for_root(const std::string& path, int type);
// The next connection, non-blocking; none when nobody waits. Others than root's are turned away.
UniqueFd accept_root(int listener, const Log& log);

}  // namespace muster::overlay::dns
