#include <fmt/format.h>

#include <boost/json.hpp>
#include <charconv>
#include <optional>
#include <set>

#include "overlay/balancer/nft_plan.h"
#include "overlay/ipam/ip.h"
#include "overlay/ipam/port_pool.h"

namespace muster::overlay {
namespace {

namespace json = boost::json;

// "c_tcp_80_3", "c_tcp_80_x65746830_m_3" taken apart.
struct Name {
  char kind = 0;  // c, 4, 6
  FrontendKey key;
  bool masquerade = false;
  uint32_t generation = 0;
};

bool number(std::string_view digits, uint32_t& out, int base = 10) {
  const auto r = std::from_chars(digits.data(), digits.data() + digits.size(), out, base);
  return r.ec == std::errc() && r.ptr == digits.data() + digits.size();
}

bool unhex(std::string_view digits, std::string& out) {
  if (digits.empty() || digits.size() % 2 != 0) return false;
  for (size_t i = 0; i < digits.size(); i += 2) {
    uint32_t byte = 0;
    if (!number(digits.substr(i, 2), byte, 16)) return false;
    out += static_cast<char>(byte);
  }
  return true;
}

std::optional<Name> parse_name(std::string_view text) {
  Name name;
  if (text.starts_with("c_")) {
    name.kind = 'c';
    text.remove_prefix(2);
  } else if (text.starts_with("m4_") || text.starts_with("m6_")) {
    name.kind = text[1];
    text.remove_prefix(3);
  } else {
    return std::nullopt;
  }
  const size_t first = text.find('_');
  const size_t second = text.rfind('_');
  if (first == std::string_view::npos || first == second) return std::nullopt;
  const std::string_view protocol = text.substr(0, first);
  if (protocol == "tcp") {
    name.key.protocol = v1::PortConfig::TCP;
  } else if (protocol == "udp") {
    name.key.protocol = v1::PortConfig::UDP;
  } else if (protocol == "sctp") {
    name.key.protocol = v1::PortConfig::SCTP;
  } else {
    return std::nullopt;
  }
  std::string_view place = text.substr(first + 1, second - first - 1);
  if (place.ends_with("_m")) {
    name.masquerade = true;
    place.remove_suffix(2);
  }
  if (const size_t bound = place.find("_x"); bound != std::string_view::npos) {
    if (!unhex(place.substr(bound + 2), name.key.bind)) return std::nullopt;
    place = place.substr(0, bound);
  }
  if (!number(place, name.key.port)) return std::nullopt;
  if (!number(text.substr(second + 1), name.generation)) return std::nullopt;
  return name;
}

// A chain, and what its rules lead by.
struct Chain {
  NftFrontend frontend;
  size_t rules = 0;
  std::map<std::string, size_t> maps;  // with the number of slots that a rule chooses from
};

// All that the listing says, by name.
struct Listing {
  std::map<std::string, std::vector<std::string>> maps;  // slots; a hole is an empty string
  std::map<std::string, Chain> chains;
  std::map<FrontendKey, std::string> dispatch;
  std::set<std::string> hidden;  // elements of the sets of flows that masquerade
};

const json::value* at(const json::value& v, std::string_view key) {
  return v.is_object() ? v.as_object().if_contains(key) : nullptr;
}
std::string text_at(const json::value& v, std::string_view key) {
  const json::value* found = at(v, key);
  return found != nullptr && found->is_string() ? std::string(found->as_string()) : std::string();
}

void read_slots(const json::value& map, std::vector<std::string>& slots) {
  const json::value* elements = at(map, "elem");
  if (elements == nullptr || !elements->is_array()) return;
  for (const json::value& e : elements->as_array()) {
    if (!e.is_array() || e.as_array().size() != 2 || !e.as_array()[0].is_int64()) continue;
    const auto slot = static_cast<size_t>(e.as_array()[0].as_int64());
    if (slot >= 4096 || !e.as_array()[1].is_string()) continue;
    if (slots.size() <= slot) slots.resize(slot + 1);
    slots[slot] = std::string(e.as_array()[1].as_string());
  }
}

void read_dispatch(const json::value& map, Listing& listing) {
  const json::value* elements = at(map, "elem");
  if (elements == nullptr || !elements->is_array()) return;
  for (const json::value& e : elements->as_array()) {
    if (!e.is_array() || e.as_array().size() != 2) continue;
    const json::value* jump = at(e.as_array()[1], "goto");
    const std::string target = jump != nullptr ? text_at(*jump, "target") : std::string();
    if (const auto name = parse_name(target)) listing.dispatch[name->key] = target;
  }
}

// As one text: the suffix of the set's name, and what is in it.
std::string hidden_text(std::string_view suffix, const std::vector<std::string>& parts) {
  return fmt::format("{} {}", suffix, fmt::join(parts, " . "));
}
std::string hidden_text(const FrontendKey& key) {
  std::vector<std::string> parts = {std::string(protocol_name(key.protocol)),
                                    std::to_string(key.port)};
  if (key.bind.empty()) return hidden_text("ports", parts);
  const auto ip = Ip::parse(key.bind);
  parts.insert(parts.begin(), ip ? ip->str() : key.bind);
  return hidden_text(!ip ? "in" : ip->v6 ? "at6" : "at4", parts);
}

void read_hidden(std::string_view suffix, const json::value& set, Listing& listing) {
  const json::value* elements = at(set, "elem");
  if (elements == nullptr || !elements->is_array()) return;
  for (const json::value& e : elements->as_array()) {
    const json::value* parts = at(e, "concat");
    if (parts == nullptr || !parts->is_array()) continue;
    std::vector<std::string> words;
    for (const json::value& part : parts->as_array()) {
      if (part.is_string()) words.emplace_back(part.as_string());
      if (part.is_int64()) words.push_back(std::to_string(part.as_int64()));
    }
    listing.hidden.insert(hidden_text(suffix, words));
  }
}

void read_way(const json::value& address, Chain& chain) {
  const json::value* map = at(address, "map");
  const json::value* key = map != nullptr ? at(*map, "key") : nullptr;
  if (key == nullptr) return;
  const json::value* hash = at(*key, "jhash");
  const json::value* turn = at(*key, "numgen");
  if (hash != nullptr) chain.frontend.by_source = true;
  const json::value* slots = hash != nullptr   ? at(*hash, "mod")
                             : turn != nullptr ? at(*turn, "mod")
                                               : nullptr;
  std::string name = text_at(*map, "data");
  if (name.starts_with('@')) name.erase(0, 1);
  chain.maps[name] =
      slots != nullptr && slots->is_int64() ? static_cast<size_t>(slots->as_int64()) : 0;
}

void read_rule(const json::value& rule, Listing& listing) {
  const auto chain = listing.chains.find(text_at(rule, "chain"));
  const json::value* expressions = at(rule, "expr");
  if (chain == listing.chains.end()) return;
  ++chain->second.rules;
  if (expressions == nullptr || !expressions->is_array()) return;
  NftFrontend& frontend = chain->second.frontend;
  for (const json::value& e : expressions->as_array()) {
    const json::value* dnat = at(e, "dnat");
    if (dnat == nullptr) continue;
    if (const json::value* port = at(*dnat, "port"); port != nullptr && port->is_int64()) {
      frontend.target_port = static_cast<uint32_t>(port->as_int64());
    }
    if (const json::value* address = at(*dnat, "addr")) read_way(*address, chain->second);
    const auto ip = Ip::parse(text_at(*dnat, "addr"));
    if (ip) (ip->v6 ? frontend.fallback_v6 : frontend.fallback_v4) = ip->str();
  }
}

Listing read(const json::value& root) {
  Listing listing;
  const json::value* items = at(root, "nftables");
  if (items == nullptr || !items->is_array()) return listing;
  for (const json::value& item : items->as_array()) {
    if (const json::value* map = at(item, "map")) {
      const std::string name = text_at(*map, "name");
      if (name == "ports" || name.starts_with("ports_")) read_dispatch(*map, listing);
      if (parse_name(name)) read_slots(*map, listing.maps[name]);
    } else if (const json::value* chain = at(item, "chain")) {
      const std::string name = text_at(*chain, "name");
      if (const auto parsed = parse_name(name)) {
        listing.chains[name].frontend.generation = parsed->generation;
        listing.chains[name].frontend.masquerade = parsed->masquerade;
      }
    } else if (const json::value* set = at(item, "set")) {
      const std::string name = text_at(*set, "name");
      const std::string_view suffix = std::string_view(name).substr(
          name.starts_with("masquerade_") ? std::string_view("masquerade_").size() : name.size());
      if (!suffix.empty()) read_hidden(suffix, *set, listing);
    }
  }
  for (const json::value& item : items->as_array()) {
    if (const json::value* rule = at(item, "rule")) read_rule(*rule, listing);
  }
  return listing;
}

bool whole(const std::vector<std::string>& slots) {
  for (const std::string& s : slots) {
    if (s.empty()) return false;
  }
  return true;
}

// Whether the chain still leads as it was made to.
bool leads(const std::string& name, const Chain& chain, const Listing& listing,
           const FrontendKey& key) {
  const NftFrontend& f = chain.frontend;
  size_t rules = 0;
  for (const bool v6 : {false, true}) {
    const auto& slots = v6 ? f.slots_v6 : f.slots_v4;
    if (slots.empty()) continue;
    rules += 2;  // by the map, and the plain one
    const auto by = chain.maps.find((v6 ? "m6_" : "m4_") + name.substr(2));
    if (by == chain.maps.end() || by->second != slots.size()) return false;
    if ((v6 ? f.fallback_v6 : f.fallback_v4).empty() || !whole(slots)) return false;
  }
  return chain.rules == rules && listing.hidden.contains(hidden_text(key)) == f.masquerade;
}

}  // namespace

bool is_frontend_name(std::string_view name) {
  return parse_name(name).has_value();
}

Result<NftState> parse_nft(std::string_view text) {
  boost::system::error_code error;
  const json::value root = json::parse({text.data(), text.size()}, error);
  if (error) return fail(internal_error("cannot read the list of nftables: {}", error.message()));
  Listing listing = read(root);
  NftState state;
  std::set<std::string> dead_chains;
  std::set<std::string> dead_maps;
  for (const auto& [name, slots] : listing.maps) dead_maps.insert(name);
  for (const auto& [name, chain] : listing.chains) dead_chains.insert(name);
  for (const auto& [key, chain_name] : listing.dispatch) {
    const auto chain = listing.chains.find(chain_name);
    if (chain == listing.chains.end()) continue;
    NftFrontend& frontend = chain->second.frontend;
    dead_chains.erase(chain_name);
    for (const bool v6 : {false, true}) {
      const std::string name = (v6 ? "m6_" : "m4_") + chain_name.substr(2);
      const auto map = listing.maps.find(name);
      if (map == listing.maps.end()) continue;
      dead_maps.erase(name);
      (v6 ? frontend.slots_v6 : frontend.slots_v4) = map->second;
    }
    if (!leads(chain_name, chain->second, listing, key)) frontend.target_port = 0;
    state.frontends.emplace(key, std::move(frontend));
  }
  state.dead_chains.assign(dead_chains.begin(), dead_chains.end());
  state.dead_maps.assign(dead_maps.begin(), dead_maps.end());
  return state;
}

}  // namespace muster::overlay
