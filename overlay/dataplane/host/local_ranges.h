#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "overlay/ipam/range_set.h"

namespace muster::overlay {

// What this host reaches without us: the destinations of its unicast routes in all tables, its own
// addresses, which need not lie in one of those (a /32 at `lo` or at an interface), and its
// resolvers, `resolvers`; but no default routes, loopback and link-local ranges, nor what belongs
// to this instance's own links. A network that overlaps one of them would hide it from the host, or
// be hidden by it. Asks the kernel, well below a millisecond.
Result<RangeSet> local_ranges(const std::string& instance_id, const std::vector<Ip>& resolvers);

}  // namespace muster::overlay
