#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "overlay/ipam/range_set.h"

namespace muster::overlay {

// What this host reaches without us: the destinations of its unicast routes in all tables (but
// default routes, loopback, link-local ranges, and those of this instance's own links), and its
// resolvers, `resolvers`. A network that overlaps one of them would hide it from the host, or be
// hidden by it. At most kLocalRangesMax, the widest. Asks the kernel, well below a millisecond.
inline constexpr size_t kLocalRangesMax = 256;
Result<RangeSet> local_ranges(const std::string& instance_id, const std::vector<Ip>& resolvers);

}  // namespace muster::overlay
