#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace muster::overlay {

// A frontend's flows are spread by counting through a map of slots, each of which names a backend.
// Backends come and go by exchanging elements of that map, never rules: a flow that meets a rule
// under replacement can leave un-NATed.

// No map has more, unless somebody says so.
inline constexpr size_t kSlotsMax = 4096;

// How generously slots are given.
struct SlotScale {
  size_t least = 64;  // slots of a map
  size_t times = 4;   // slots for each backend; four keep the unevenness below a quarter of a share
  size_t most = kSlotsMax;  // slots of a map; a power of two

  friend bool operator==(const SlotScale&, const SlotScale&) = default;
};

// The slots a map for `backends` backends has: the next power of two of at least `times` as many,
// from `least` to `most`.
size_t slot_count(size_t backends, const SlotScale& scale = {});
// As how many backends those of these weights (0 counts as 1) are: so many of the smallest weight
// as make up the sum, so that the lightest one gets its slots, too.
size_t as_equal_backends(const std::vector<uint32_t>& weights);
inline size_t slot_count(const std::vector<uint32_t>& weights, const SlotScale& scale = {}) {
  return slot_count(as_equal_backends(weights), scale);
}

// Of more backends than slots a subset is led to at a time: those from number `first` on. It moves
// on by kTurns-ths of the slots, so that each has its turn while flows stay where they are.
inline constexpr size_t kTurns = 16;
inline size_t next_turn(size_t first, size_t most = kSlotsMax) {
  return first + (most < kTurns ? 1 : most / kTurns);
}

// What bounds the cost of services in a namespace whose maps have slots for all of them, used or
// not: 65,536 slots a network take some 6 MiB of kernel memory.
inline constexpr size_t kSlotsOfNetwork = 65'536;
// The scale at which maps for so many backends each have no more slots together than that: the
// default as long as it will do, then smaller maps of small services, then one slot a backend, for
// good. `now`: the scale in use; a more generous one has to take no more than half of what there
// is, so that services which come and go do not rebuild all maps each time.
SlotScale slot_scale(const std::vector<size_t>& backends, const SlotScale& now);
// The slots of a map that had `have` (0: none) and is for `backends` now, where slots are not
// scarce: as many as it had as long as they will do and are not four times too many, so that a
// service which breathes does not rebuild its map each time.
size_t kept_slot_count(size_t backends, size_t have, const SlotScale& scale = {});
// The most generous scale at which maps of so many slots, for so many backends each, can have been
// made; the default without any.
struct HeldSlots {
  size_t slots = 0;
  size_t backends = 0;
};
SlotScale scale_of(const std::vector<HeldSlots>& maps);

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
