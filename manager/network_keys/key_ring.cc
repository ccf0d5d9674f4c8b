#include "manager/network_keys/key_ring.h"

#include <algorithm>

#include "base/check.h"

namespace muster::manager::network_keys {
namespace {

const v1::NetworkKey* newest(const v1::Cluster& cluster) {
  const int count = cluster.network_keys_size();
  return count == 0 ? nullptr : &cluster.network_keys(count - 1);
}

// Those who do not say that they have the newest key are waited for this long.
Duration patience(const RingView& view) {
  return view.rotation / 2;
}

// A clock that was set back by more than a key lives would keep it for ever.
Duration age(const v1::NetworkKey& key, const RingView& view) {
  const Duration age(view.now.unix_ns - key.made_at_ns());
  return age < -view.rotation ? view.rotation : age;
}

}  // namespace

Duration rotation_of(const v1::Cluster& cluster) {
  const int64_t wanted = cluster.spec().encryption().key_rotation_ns();
  return wanted > 0 ? Duration(wanted) : kDefaultRotation;
}

RingStep next_step(const v1::Cluster& cluster, const RingView& view) {
  const v1::NetworkKey* key = newest(cluster);
  if (!view.needed) return RingStep::kNothing;
  if (key == nullptr) return RingStep::kMake;
  if (key->used_from_ns() == 0) {
    return view.everybody || view.waited >= patience(view) ? RingStep::kUse : RingStep::kNothing;
  }
  return age(*key, view) >= view.rotation ? RingStep::kMake : RingStep::kNothing;
}

std::optional<Duration> due_in(const v1::Cluster& cluster, const RingView& view) {
  const v1::NetworkKey* key = newest(cluster);
  if (!view.needed) return std::nullopt;
  if (key == nullptr) return Duration(0);
  const Duration left =
      key->used_from_ns() == 0 ? patience(view) - view.waited : view.rotation - age(*key, view);
  return std::max(Duration(0), left);
}

void take_step(v1::Cluster& cluster, RingStep step, const std::string& secret, WallTime now) {
  auto& keys = *cluster.mutable_network_keys();
  if (step == RingStep::kUse && !keys.empty()) {
    keys[keys.size() - 1].set_used_from_ns(now.unix_ns);
  }
  if (step != RingStep::kMake) return;
  MUSTER_CHECK(secret.size() == kSecretBytes);
  const uint64_t number = keys.empty() ? 1 : keys[keys.size() - 1].number() + 1;
  const bool first = keys.empty();
  const int surplus = keys.size() + 1 - static_cast<int>(kKeysMax);
  if (surplus > 0) keys.DeleteSubrange(0, surplus);
  v1::NetworkKey& key = *keys.Add();
  key.set_number(number);
  key.set_secret(secret);
  key.set_made_at_ns(now.unix_ns);
  // Nothing was sent before: whoever does not have it yet loses nothing by it.
  if (first) key.set_used_from_ns(now.unix_ns);
}

}  // namespace muster::manager::network_keys
