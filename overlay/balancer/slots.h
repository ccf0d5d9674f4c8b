#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace muster::overlay {

// A frontend's flows are spread by counting through a map of slots, each of which names a backend.
// Backends come and go by exchanging elements of that map, never rules: a flow that meets a rule
// under replacement can leave un-NATed.

// The slots a map for `backends` backends has: the next power of two of at least four times as
// many, from 64 to 4,096. Four times keeps the unevenness below a quarter of a share.
size_t slot_count(size_t backends);
// The same for backends of these weights (0 counts as 1): as for so many backends of the smallest
// weight as make up the sum, so that the lightest one gets its four slots, too.
size_t slot_count(const std::vector<uint32_t>& weights);

// Which backend each of `count` slots names. Evenly: every backend gets floor or ceil of its share,
// but one slot at least. Interleaved: neighbouring slots name different backends, so that short
// bursts are spread too. Slots of `old` (may be empty or of another size, then all is new) keep
// their backend wherever evenness allows it. More backends than slots: the first `count` are used.
// Empty without backends. `weights`: of the backends, in their order; empty = all alike.
std::vector<std::string> assign_slots(const std::vector<std::string>& old,
                                      const std::vector<std::string>& backends, size_t count,
                                      const std::vector<uint32_t>& weights = {});

// A map of slots as one of another size would be, for a hash over them: what a key finds in the one
// it finds in the other. Both sizes are powers of two.
std::vector<std::string> resize_slots(const std::vector<std::string>& slots, size_t count);

}  // namespace muster::overlay
