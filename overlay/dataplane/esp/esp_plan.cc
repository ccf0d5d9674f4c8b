#include "overlay/dataplane/esp/esp_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "base/fnv.h"
#include "base/security/hkdf.h"
#include "overlay/dataplane/kernel/wire.h"
#include "overlay/ipam/mtu.h"

namespace muster::overlay {
namespace {

constexpr size_t kSecretBytes = 32;
constexpr size_t kKeyBytes = 32 + 4;
constexpr uint32_t kAddressBits = 28;
// More than are sent between the look at a state and its being made anew.
constexpr uint64_t kUnseenPackets = uint64_t{1} << 24;

uint32_t address_part(const Ip& ip) {
  const uint32_t whole = ip.v6 ? fnv1a_32(ip_bytes(ip)) : static_cast<uint32_t>(ip.value);
  return whole & ((1u << kAddressBits) - 1);
}

// Unlike a listing's order, the same for every address.
std::string big_endian(uint64_t number) {
  std::string out(8, '\0');
  for (auto it = out.rbegin(); it != out.rend(); ++it, number >>= 8) {
    *it = static_cast<char>(number & 0xff);
  }
  return out;
}

void count(std::vector<std::string>* out, size_t number, std::string_view one,
           std::string_view many) {
  if (out == nullptr || number == 0) return;
  out->push_back(number == 1 ? std::string(one) : fmt::format("{} {}", number, many));
}

// Lockdown hides keys from everybody; what cannot be seen is taken for right.
bool same_key(const EspState& kernel, const EspState& wanted) {
  const bool hidden = std::all_of(kernel.key.begin(), kernel.key.end(), [](char c) { return !c; });
  return kernel.from == wanted.from &&
         (kernel.key == wanted.key || (hidden && kernel.key.size() == wanted.key.size()));
}

// `kernel`: what it has in the state's place, or had; nullptr: nothing.
EspChange add_state(const EspStateId& id, const EspState& state, const EspKernelState* kernel,
                    bool receives, uint64_t first) {
  EspChange out{EspChange::Kind::kAddState, id.to.v6, id, state, {}};
  const bool goes_on = kernel != nullptr && same_key(kernel->state, state);
  if (goes_on) out.numbers = kernel->numbers;
  if (!receives) out.numbers.sent = goes_on ? out.numbers.sent + kUnseenPackets : first;
  return out;
}

void policy_changes(const EspKernel& kernel, const EspPlan& wanted, const Ip& self,
                    std::vector<EspChange>& changes, std::vector<std::string>* differences) {
  size_t missing = 0;
  size_t strange = 0;
  if (!kernel.blocks.contains(self.v6)) {
    changes.push_back({EspChange::Kind::kBlock, self.v6, {}, {}});
    ++missing;
  }
  for (const auto& [peer, spi] : wanted.policies) {
    const auto at = kernel.policies.find(peer);
    if (at != kernel.policies.end() && at->second == spi) continue;
    ++missing;
    changes.push_back({EspChange::Kind::kSetPolicy, peer.v6, {peer, spi}, {}});
  }
  for (const auto& [peer, spi] : kernel.policies) {
    if (wanted.policies.contains(peer)) continue;
    ++strange;
    changes.push_back({EspChange::Kind::kDropPolicy, peer.v6, {peer, spi}, {}});
  }
  count(differences, missing, "a policy of encryption was missing or changed",
        "policies of encryption were missing or changed");
  count(differences, strange, "a policy of encryption was left over",
        "policies of encryption were left over");
}

}  // namespace

EspUse esp_use(const NetworkTruths& truths, const LocalNode& node) {
  EspUse out;
  out.port = static_cast<uint16_t>(node.data_path_port);
  const auto self = Ip::parse(node.data_path_addr);
  if (!self) return out;
  out.self = *self;
  const auto add = [&](const std::string& node_id, const std::string& address) {
    const auto peer = Ip::parse(address);
    if (node_id == node.node_id || !peer || peer->v6 != self->v6 || *peer == *self) return;
    out.peers.insert(*peer);
  };
  for (const auto& [id, truth] : truths.all()) {
    if (!is_encrypted(truth.network.spec()) || truth.network.state().vni() == 0) continue;
    out.vnis.insert(truth.network.state().vni());
    for (const auto& [task, e] : truth.endpoints) add(e.node_id(), e.data_path_addr());
    for (const auto& [peer, n] : truth.ingress_nodes) add(n.node_id(), n.data_path_addr());
  }
  return out;
}

const EncryptionKey* sending_key(const Encryption& encryption) {
  const auto& keys = encryption.keys;
  const auto at =
      std::find_if(keys.rbegin(), keys.rend(), [](const EncryptionKey& k) { return k.used; });
  return at == keys.rend() ? nullptr : &*at;
}

uint32_t esp_spi(const Ip& from, uint64_t key_number, uint32_t lane) {
  // Numbers below 256 are reserved; no address of a host is as small.
  return static_cast<uint32_t>(key_number % 4) << 30 | (lane % kEspLanes) << kAddressBits |
         address_part(from);
}

std::optional<uint32_t> esp_lane(uint32_t spi, uint64_t key_number) {
  if (spi >> 30 != key_number % 4) return std::nullopt;
  return (spi >> kAddressBits) % kEspLanes;
}

Result<EspState> esp_state(const EncryptionKey& key, const Ip& from, const Ip& to, uint32_t lane,
                           uint32_t udp_port) {
  if (key.secret.size() != kSecretBytes) {
    return fail(invalid_argument("key {} of encrypted networks has {} bytes, not {}", key.number,
                                 key.secret.size(), kSecretBytes));
  }
  const std::string info = "muster esp 1" + big_endian(key.number) + big_endian(lane) +
                           (from.v6 ? "6" : "4") + ip_bytes(from) + ip_bytes(to);
  EspState out;
  out.from = from;
  out.udp_port = static_cast<uint16_t>(udp_port);
  MUSTER_ASSIGN(out.key, security::hkdf_sha256(key.secret, info, kKeyBytes));
  return out;
}

Result<EspPlan> esp_plan(const Ip& self, const std::set<Ip>& peers, const Encryption& encryption,
                         const std::map<Ip, uint32_t>& lanes, std::vector<Ip>* clashes) {
  EspPlan out;
  const EncryptionKey* sending = sending_key(encryption);
  std::set<uint32_t> parts = {address_part(self)};
  for (const Ip& peer : peers) {
    if (peer.v6 != self.v6) continue;
    if (!parts.insert(address_part(peer)).second) {
      if (clashes != nullptr) clashes->push_back(peer);
      continue;
    }
    for (const EncryptionKey& key : encryption.keys) {
      for (uint32_t lane = 0; lane < kEspLanes; ++lane) {
        MUSTER_ASSIGN(out.states[(EspStateId{self, esp_spi(peer, key.number, lane)})],
                      esp_state(key, peer, self, lane, encryption.udp_port));
      }
    }
    if (sending == nullptr) continue;
    const auto at = lanes.find(peer);
    const uint32_t lane = at == lanes.end() ? 0 : at->second;
    const EspStateId id{peer, esp_spi(self, sending->number, lane)};
    MUSTER_ASSIGN(out.states[id], esp_state(*sending, self, peer, lane, encryption.udp_port));
    out.policies[peer] = id.spi;
  }
  return out;
}

std::vector<EspChange> esp_changes(const EspKernel& kernel, const EspPlan& wanted, const Ip& self,
                                   std::vector<std::string>* differences) {
  std::vector<EspChange> changes;
  size_t missing = 0;
  size_t strange = 0;
  for (const auto& [id, state] : wanted.states) {
    const auto at = kernel.states.find(id);
    const EspKernelState* there = at == kernel.states.end() ? nullptr : &at->second;
    if (there != nullptr && same_key(there->state, state) &&
        there->state.udp_port == state.udp_port) {
      continue;
    }
    ++missing;
    if (there != nullptr) changes.push_back({EspChange::Kind::kDropState, id.to.v6, id, {}});
    const EspKernelState* before = there;
    if (before == nullptr && wanted.known != nullptr) {
      const auto known = wanted.known->find(id);
      if (known != wanted.known->end()) before = &known->second;
    }
    changes.push_back(add_state(id, state, before, id.to == self, wanted.first));
  }
  count(differences, missing, "a security association of encryption was missing or changed",
        "security associations of encryption were missing or changed");
  policy_changes(kernel, wanted, self, changes, differences);
  // The block is first: nothing is to leave while the rest is made.
  std::stable_partition(changes.begin(), changes.end(), [](const EspChange& change) {
    return change.kind == EspChange::Kind::kBlock;
  });
  for (const auto& [id, state] : kernel.states) {
    if (wanted.states.contains(id)) continue;
    ++strange;
    changes.push_back({EspChange::Kind::kDropState, id.to.v6, id, {}});
  }
  count(differences, strange, "a security association of encryption was left over",
        "security associations of encryption were left over");
  return changes;
}

void remember(EspKernel kernel, const Encryption& encryption,
              std::map<EspStateId, EspKernelState>* known) {
  for (auto& [id, state] : kernel.states) known->insert_or_assign(id, std::move(state));
  if (encryption.keys.empty()) return;
  std::erase_if(*known, [&](const auto& entry) {
    return std::none_of(encryption.keys.begin(), encryption.keys.end(), [&](const auto& key) {
      return esp_lane(entry.first.spi, key.number).has_value();
    });
  });
}

uint16_t udp_port_of(const EspKernel& kernel) {
  std::map<uint16_t, size_t> states;
  for (const auto& [id, state] : kernel.states) {
    if (state.state.udp_port != 0) ++states[state.state.udp_port];
  }
  const auto most =
      std::max_element(states.begin(), states.end(),
                       [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == states.end() ? 0 : most->first;
}

uint32_t choose_lane(const EspKernel& kernel, const Ip& self, const Ip& peer, uint64_t key_number,
                     const std::optional<EspSent>& before, uint32_t first) {
  for (uint32_t lane = 0; lane < kEspLanes; ++lane) {
    const auto at = kernel.states.find({peer, esp_spi(self, key_number, lane)});
    if (at != kernel.states.end() && at->second.state.from == self) return lane;
  }
  const bool again = before && before->key_number == key_number;
  return (again ? before->lane + 1 : first) % kEspLanes;
}

// ---------------------------------------------------------------- rules

std::string esp_mark_table(std::string_view table, std::string_view device, uint32_t mark) {
  return fmt::format(
      "add table netdev {0}\ndelete table netdev {0}\ntable netdev {0} {{\n"
      "  chain out {{\n    type filter hook egress device \"{1}\" priority 0; policy accept;\n"
      "    meta mark set 0x{2:x}\n  }}\n}}\n",
      table, device, mark);
}

std::string esp_guard_table(std::string_view table, uint16_t port, const std::set<uint32_t>& vnis,
                            uint32_t reqid) {
  std::string names;
  for (const uint32_t vni : vnis) names += fmt::format("  chain vni_{} {{ }}\n", vni);
  // Postrouting sees a packet before it is encrypted, too; then its route says that it will be.
  return fmt::format(
      "add table inet {0}\ndelete table inet {0}\ntable inet {0} {{\n{1}"
      "  chain plain {{\n    meta ipsec missing counter drop\n"
      "    ipsec in reqid != {4} counter drop\n  }}\n"
      "  chain leaving {{\n    type filter hook postrouting priority 0; policy accept;\n"
      "    udp dport {2} @th,96,24 {{ {3} }} rt ipsec missing counter drop\n  }}\n"
      "  chain coming {{\n    type filter hook input priority 0; policy accept;\n"
      "    udp dport {2} @th,96,24 {{ {3} }} jump plain\n  }}\n}}\n",
      table, names, port, fmt::join(vnis, ", "), reqid);
}

std::set<uint32_t> guarded_vnis(std::string_view listing) {
  constexpr std::string_view kName = "\"name\": \"vni_";
  std::set<uint32_t> out;
  for (size_t at = listing.find(kName); at != listing.npos; at = listing.find(kName, at)) {
    at += kName.size();
    uint32_t vni = 0;
    const auto parsed = std::from_chars(listing.data() + at, listing.data() + listing.size(), vni);
    if (parsed.ec == std::errc()) out.insert(vni);
  }
  return out;
}

std::pair<uint64_t, uint64_t> guard_counts(std::string_view listing) {
  constexpr std::string_view kRule = "\"rule\":";
  constexpr std::string_view kPackets = "\"packets\": ";
  std::pair<uint64_t, uint64_t> out;
  for (size_t at = listing.find(kRule); at != listing.npos;) {
    const size_t next = listing.find(kRule, at + 1);
    const std::string_view rule = listing.substr(at, next - at);
    at = next;
    const size_t packets = rule.find(kPackets);
    if (packets == rule.npos) continue;
    uint64_t number = 0;
    const char* digits = rule.data() + packets + kPackets.size();
    (void)std::from_chars(digits, rule.data() + rule.size(), number);
    const bool leaving = rule.find("\"chain\": \"leaving\"") != rule.npos;
    (leaving ? out.first : out.second) += number;
  }
  return out;
}

uint32_t esp_reqid(std::string_view instance) {
  return 0x40000000u | (fnv1a_32(instance) & 0x3fffffffu);
}

uint32_t esp_mark(std::string_view instance) {
  return 0x5d000000u | (fnv1a_32(instance) & 0xfffu);
}

}  // namespace muster::overlay
