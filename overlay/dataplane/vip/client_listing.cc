#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include "overlay/dataplane/vip/client_listing.h"
#include "overlay/dataplane/vip/client_rules.h"

// The other direction of client_rules.h: what the kernel has.
namespace muster::overlay {
namespace {

constexpr uint32_t kSlotsMax = 4096;

// What one rule of ours says.
struct Rule {
  uint32_t modulus = 0;  // of counting or hashing; 0 = neither
  bool by_source = false;
  std::string map;  // that it looks up
  Ip plain;         // the address it loads
  bool loads = false;
  bool dnat = false;
};

struct Kernel {
  std::set<std::string> sets;
  std::map<std::string, std::vector<Rule>> chains;  // rules in order
};

Rule read_rule(std::string_view attributes) {
  Rule rule;
  std::string_view list = find_attribute(attributes, NFTA_RULE_EXPRESSIONS);
  uint16_t type = 0;
  for (std::string_view expression; (expression = next_attribute(list, &type)).data() != nullptr;) {
    const std::string_view name = text_of(find_attribute(expression, NFTA_EXPR_NAME));
    const std::string_view data = find_attribute(expression, NFTA_EXPR_DATA);
    if (name == "numgen") {
      rule.modulus = be32_of(find_attribute(data, NFTA_NG_MODULUS));
    } else if (name == "hash") {
      rule.modulus = be32_of(find_attribute(data, NFTA_HASH_MODULUS));
      rule.by_source = true;
    } else if (name == "lookup") {
      rule.map = text_of(find_attribute(data, NFTA_LOOKUP_SET));
    } else if (name == "immediate") {
      const std::string_view value = nested(data, NFTA_IMMEDIATE_DATA, NFTA_DATA_VALUE);
      rule.loads = value.size() == 4 || value.size() == 16;
      if (rule.loads) rule.plain = ip_of_wire(value);
    } else if (name == "nat") {
      rule.dnat = be32_of(find_attribute(data, NFTA_NAT_TYPE)) == NFT_NAT_DNAT;
    }
  }
  return rule;
}

Result<Kernel> read_kernel(WireSocket& socket) {
  Kernel kernel;
  MUSTER_TRY(list_nft(socket, NFT_MSG_GETCHAIN, false, [&](std::string_view attributes) {
    kernel.chains[std::string(text_of(find_attribute(attributes, NFTA_CHAIN_NAME)))];
  }));
  if (kernel.chains.empty()) return kernel;
  MUSTER_TRY(list_nft(socket, NFT_MSG_GETSET, true, [&](std::string_view attributes) {
    kernel.sets.emplace(text_of(find_attribute(attributes, NFTA_SET_NAME)));
  }));
  MUSTER_TRY(list_nft(socket, NFT_MSG_GETRULE, true, [&](std::string_view attributes) {
    kernel.chains[std::string(text_of(find_attribute(attributes, NFTA_RULE_CHAIN)))].push_back(
        read_rule(attributes));
  }));
  return kernel;
}

bool base_is_whole(const Kernel& kernel) {
  const auto rules = [&](const char* chain) {
    const auto at = kernel.chains.find(chain);
    return at == kernel.chains.end() ? 0 : at->second.size();
  };
  for (const char* set : {"services4", "services6", "vips4", "vips6"}) {
    if (kernel.sets.count(set) == 0) return false;
  }
  if (kernel.chains.count(std::string(vip_rules_marker())) == 0) return false;
  return rules("output") == 4 && rules("guard") == 4 && rules("refuse") == 3;
}

// How a chain spreads; nullptr when it is not one that we would have made.
Result<VipSpreadPtr> read_spread(WireSocket& socket, const std::vector<Rule>& rules,
                                 const VipName& name, uint32_t origin) {
  if (rules.size() != 2 || !rules[0].dnat || !rules[1].dnat || !rules[1].loads) return nullptr;
  const uint32_t count = rules[0].modulus;
  if (count == 0 || count > kSlotsMax || rules[0].map != vip_map(name.vip, name.generation)) {
    return nullptr;
  }
  auto spread = std::make_shared<VipSpread>();
  spread->by_source = rules[0].by_source;
  spread->fallback = rules[1].plain;
  spread->slots.resize(count);
  size_t found = 0;
  bool strange = false;
  MUSTER_TRY(list_elements(socket, rules[0].map, [&](std::string_view key, std::string_view data) {
    const std::string_view value = find_attribute(data, NFTA_DATA_VALUE);
    uint32_t slot = 0;
    if (key.size() == sizeof(slot)) std::memcpy(&slot, key.data(), sizeof(slot));
    strange = strange || key.size() != sizeof(slot) || slot >= count ||
              value.size() != (name.vip.v6 ? 16u : 4u);
    if (strange) return;
    spread->slots[(slot + count - origin % count) % count] = ip_of_wire(value);
    ++found;
  }));
  return strange || found != count ? nullptr : VipSpreadPtr(std::move(spread));
}

// The addresses of one family and where they are led.
Status read_family(WireSocket& socket, bool v6, uint32_t origin, Kernel& kernel,
                   VipListing& listing) {
  std::map<Ip, std::string> led;
  MUSTER_TRY(list_elements(
      socket, v6 ? "services6" : "services4", [&](std::string_view key, std::string_view data) {
        led[ip_of_wire(key)] = text_of(nested(data, NFTA_DATA_VERDICT, NFTA_VERDICT_CHAIN));
      }));
  std::set<Ip> guarded;
  MUSTER_TRY(list_elements(
      socket, v6 ? "vips6" : "vips4",
      [&](std::string_view key, std::string_view) { guarded.insert(ip_of_wire(key)); }));
  const auto nothing = std::make_shared<VipSpread>();
  for (const Ip& vip : guarded) listing.state.vips[vip] = {0, nothing};
  for (const auto& [vip, chain] : led) {
    VipHeld& held = listing.state.vips[vip];
    held.guarded = guarded.count(vip) != 0;
    const auto name = parse_vip_name(chain);
    held.broken = !name || !name->chain || name->vip != vip;
    if (!held.broken) {
      held.generation = name->generation;
      MUSTER_ASSIGN(held.spread, read_spread(socket, kernel.chains[chain], *name, origin));
      held.broken = held.spread == nullptr;
      kernel.sets.erase(vip_map(vip, name->generation));
      kernel.chains.erase(chain);
    }
    if (held.broken) held.spread = nothing;
  }
  return ok_status();
}

}  // namespace

Result<VipListing> list_vips(WireSocket& socket, uint32_t origin) {
  MUSTER_ASSIGN(Kernel kernel, read_kernel(socket));
  VipListing listing;
  listing.base_whole = base_is_whole(kernel);
  if (!listing.base_whole) return listing;
  uint32_t highest = 0;
  const auto note = [&](const std::string& name) {
    if (const auto parsed = parse_vip_name(name)) {
      highest = std::max(highest, parsed->generation + 1);
    }
  };
  for (const auto& [name, rules] : kernel.chains) note(name);
  for (const std::string& name : kernel.sets) note(name);
  MUSTER_TRY(read_family(socket, false, origin, kernel, listing));
  MUSTER_TRY(read_family(socket, true, origin, kernel, listing));
  listing.state.next_generation = highest;
  // What is left of our naming leads nowhere.
  for (const auto& [name, rules] : kernel.chains) {
    if (parse_vip_name(name)) listing.state.dead_chains.push_back(name);
  }
  for (const std::string& name : kernel.sets) {
    if (parse_vip_name(name)) listing.state.dead_maps.push_back(name);
  }
  return listing;
}

}  // namespace muster::overlay
