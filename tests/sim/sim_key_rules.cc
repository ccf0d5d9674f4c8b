// Who shares an encrypted network understands each other (W10).
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <variant>

#include "manager/dispatcher/network_feed.h"
#include "manager/network_keys/key_ring.h"
#include "overlay/ipam/mtu.h"
#include "tests/sim/sim_rules.h"

namespace muster::sim {

namespace store = manager::store;

namespace {

const v1::NetworkKey* newest(const v1::Cluster* cluster) {
  const int count = cluster == nullptr ? 0 : cluster->network_keys_size();
  return count == 0 ? nullptr : &cluster->network_keys(count - 1);
}

bool takes_part(const SimHost& host) {
  const auto& routes = host.network().routes();
  return std::any_of(routes.begin(), routes.end(), [](const auto& route) {
    return overlay::is_encrypted(route.second.network.spec());
  });
}

bool is_led_to(const store::Snapshot& state, const std::string& node_id) {
  const auto networks = manager::dispatcher::networks_of_node(state, node_id);
  return std::any_of(networks.begin(), networks.end(), [&](const std::string& id) {
    const auto network = state.get<v1::Network>(id);
    return network != nullptr && overlay::is_encrypted(network->spec());
  });
}

bool has_key(const SimHost& host, const v1::NetworkKey& key) {
  const auto& keys = host.network().encryption().keys;
  return std::any_of(keys.begin(), keys.end(), [&](const overlay::EncryptionKey& known) {
    return known.number == key.number() && known.secret == key.secret();
  });
}

std::string names_of(const overlay::Encryption& encryption) {
  std::string out;
  for (const auto& key : encryption.keys) {
    out += fmt::format(" {}{}", key.number, key.used ? "*" : "");
  }
  return out.empty() ? " none" : out;
}

}  // namespace

void SimRules::note_keys(const store::CommitEvent& event) {
  for (const store::AnyChange& any : *event.changes) {
    const auto* change = std::get_if<store::Change<v1::Cluster>>(&any);
    if (change == nullptr) continue;
    const v1::NetworkKey* before = newest(change->before.get());
    const v1::NetworkKey* after = newest(change->after.get());
    if (after == nullptr) continue;
    const bool made = before == nullptr || before->number() != after->number();
    if (made) {
      key_made_ = {world_.now(), {}};
      for (const auto& host : hosts_) {
        const bool awaited = host->established() && takes_part(*host);
        if (awaited) key_made_.sessions[host->id()] = host->links();
      }
    }
    const bool used = after->used_from_ns() != 0;
    if (used && !made && before->used_from_ns() == 0) check_key_use(event.after, *after);
  }
}

// Sent with from now on: by whoever hears of it first.
void SimRules::check_key_use(const store::Snapshot& state, const v1::NetworkKey& key) const {
  // Managers' clocks run fast or slow.
  const Duration waited = manager::network_keys::rotation_of(*state.cluster()) / 4;
  if (world_.now() - key_made_.since >= waited) return;
  for (const auto& host : hosts_) {
    const auto then = key_made_.sessions.find(host->id());
    const bool alive =
        host->established() && then != key_made_.sessions.end() && then->second == host->links();
    if (!alive || !takes_part(*host) || has_key(*host, key)) continue;
    // A node whose last task there has ended is led to by nobody, though it clears up yet.
    if (!is_led_to(state, host->id())) continue;
    broken_(fmt::format("key {} is sent with {} after it was made, and {} has{} (W10)",
                        key.number(), format_duration(world_.now() - key_made_.since), host->id(),
                        names_of(host->network().encryption())));
  }
}

Status SimRules::check_keys(const store::Snapshot& state, const SimHost& host) const {
  if (!takes_part(host)) return ok_status();
  const auto& keys = host.network().encryption().keys;
  const auto& wanted = state.cluster()->network_keys();
  const bool same = std::equal(keys.begin(), keys.end(), wanted.begin(), wanted.end(),
                               [](const auto& a, const auto& b) {
                                 return a.number == b.number() && a.secret == b.secret() &&
                                        a.used == (b.used_from_ns() != 0);
                               });
  if (same && !keys.empty()) return ok_status();
  return internal_error("{} has keys{} of encrypted networks, there are {} (W10)", host.id(),
                        names_of(host.network().encryption()), wanted.size());
}

}  // namespace muster::sim
