#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace muster::overlay {

// A frontend's flows are spread by counting through a map of slots, each of which names a backend.
// Backends come and go by exchanging elements of that map, never rules: a flow that meets a rule
// under replacement can leave un-NATed.

// The slots a map for `backends` backends has: the next power of two of at least four times as
// many, from 64 to 4,096. Four times keeps the unevenness below a quarter of a share.
size_t slot_count(size_t backends);

// Which backend each of `count` slots names. Evenly: every backend gets floor or ceil of its share.
// Interleaved: neighbouring slots name different backends, so that short bursts are spread too.
// Slots of `old` (may be empty or of another size, then all is new) keep their backend wherever
// evenness allows it. More backends than slots: the first `count` are used. Empty without backends.
std::vector<std::string> assign_slots(const std::vector<std::string>& old,
                                      const std::vector<std::string>& backends, size_t count);

}  // namespace muster::overlay
