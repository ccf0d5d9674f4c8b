#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "base/time.h"
#include "muster/v1/objects.pb.h"

namespace muster::manager::network_keys {

inline constexpr Duration kDefaultRotation = 12h;
inline constexpr size_t kKeysMax = 3;
inline constexpr size_t kSecretBytes = 32;

Duration rotation_of(const v1::Cluster& cluster);

// What the ring's next step depends on, but for the ring itself.
struct RingView {
  WallTime now;
  Duration rotation{};
  bool needed = false;     // there is an encrypted network
  bool everybody = false;  // every node that takes part in one has the newest key
  Duration waited{};       // for those since
};

enum class RingStep {
  kNothing,
  kMake,  // a key that nodes receive with
  kUse,   // they send with the newest from now on
};

// Pure; steps are taken one at a time.
RingStep next_step(const v1::Cluster& cluster, const RingView& view);
// How long until time alone makes something due; nullopt: never.
std::optional<Duration> due_in(const v1::Cluster& cluster, const RingView& view);

// Carries a step out. `secret`: kSecretBytes of unpredictable bytes, for kMake.
void take_step(v1::Cluster& cluster, RingStep step, const std::string& secret, WallTime now);

}  // namespace muster::manager::network_keys
