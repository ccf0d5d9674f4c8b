#include "overlay/dataplane/host/ruleset.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json.hpp>
#include <iterator>
#include <set>

#include "overlay/ipam/ip.h"

namespace muster::overlay {
namespace {

// %T is the table's name, %O and %I are the ways out of containers and those in alone.
//
// A container cannot send by another's address on its way out, nor by one of an overlay network,
// to which no answer would find back. One that shall not get out is called by its node, to whom it
// has a route.
//
// A published port answers at local addresses: any of them, one of them, or what comes in by one
// interface. At ::1 relays answer, of TCP and UDP, whatever the task listens on; SCTP, which nobody
// but the kernel can pass on, is led like the rest (add_loopback6).
//
// Hairpin goes by addresses, not by interfaces: a frame that br_netfilter
// bridges has no incoming interface any more where its source would be rewritten.
constexpr std::string_view kBase = R"(
add table inet %T
delete table inet %T
add table inet %T
add map inet %T ports { typeof meta l4proto . th dport : verdict; }
add map inet %T ports_at4 { typeof ip daddr . meta l4proto . th dport : verdict; }
add map inet %T ports_at6 { typeof ip6 daddr . meta l4proto . th dport : verdict; }
add map inet %T ports_in { typeof iifname . meta l4proto . th dport : verdict; }
add set inet %T masquerade_ports { type inet_proto . inet_service; }
add set inet %T masquerade_at4 { type ipv4_addr . inet_proto . inet_service; }
add set inet %T masquerade_at6 { type ipv6_addr . inet_proto . inet_service; }
add set inet %T masquerade_in { type ifname . inet_proto . inet_service; }
add set inet %T bridges { type ifname; }
add set inet %T internal { type ifname; }
add set inet %T same_network { typeof iifname . oifname; }
add set inet %T hairpin4 { typeof ip saddr . ip daddr; flags interval; }
add set inet %T hairpin6 { typeof ip6 saddr . ip6 daddr; flags interval; }
add set inet %T masquerade4 { type ipv4_addr; flags interval; }
add set inet %T masquerade6 { type ipv6_addr; flags interval; }

add chain inet %T martians { type filter hook prerouting priority -300; policy accept; }
add rule inet %T martians iifname "%O" fib saddr . iif oif missing drop
add rule inet %T martians iifname "%I" fib saddr . iif oif missing drop
add rule inet %T martians iifname != "lo" ip daddr 127.0.0.0/8 drop

add chain inet %T prerouting { type nat hook prerouting priority -100; policy accept; }
add rule inet %T prerouting fib daddr type != local accept
add rule inet %T prerouting ip daddr . meta l4proto . th dport vmap @ports_at4
add rule inet %T prerouting ip6 daddr . meta l4proto . th dport vmap @ports_at6
add rule inet %T prerouting iifname . meta l4proto . th dport vmap @ports_in
add rule inet %T prerouting meta l4proto . th dport vmap @ports
add chain inet %T output { type nat hook output priority -100; policy accept; }
add rule inet %T output fib daddr type != local accept
add rule inet %T output ip6 daddr ::1 meta l4proto != sctp accept
add rule inet %T output ip daddr . meta l4proto . th dport vmap @ports_at4
add rule inet %T output ip6 daddr . meta l4proto . th dport vmap @ports_at6
add rule inet %T output oifname . meta l4proto . th dport vmap @ports_in
add rule inet %T output meta l4proto . th dport vmap @ports

add chain inet %T hidden
add rule inet %T hidden meta l4proto tcp meta l4proto . ct original proto-dst @masquerade_ports masquerade
add rule inet %T hidden meta l4proto tcp ct original ip daddr . meta l4proto . ct original proto-dst @masquerade_at4 masquerade
add rule inet %T hidden meta l4proto tcp ct original ip6 daddr . meta l4proto . ct original proto-dst @masquerade_at6 masquerade
add rule inet %T hidden meta l4proto tcp iifname . meta l4proto . ct original proto-dst @masquerade_in masquerade
add rule inet %T hidden meta l4proto udp meta l4proto . ct original proto-dst @masquerade_ports masquerade
add rule inet %T hidden meta l4proto udp ct original ip daddr . meta l4proto . ct original proto-dst @masquerade_at4 masquerade
add rule inet %T hidden meta l4proto udp ct original ip6 daddr . meta l4proto . ct original proto-dst @masquerade_at6 masquerade
add rule inet %T hidden meta l4proto udp iifname . meta l4proto . ct original proto-dst @masquerade_in masquerade
add rule inet %T hidden meta l4proto sctp meta l4proto . ct original proto-dst @masquerade_ports masquerade
add rule inet %T hidden meta l4proto sctp ct original ip daddr . meta l4proto . ct original proto-dst @masquerade_at4 masquerade
add rule inet %T hidden meta l4proto sctp ct original ip6 daddr . meta l4proto . ct original proto-dst @masquerade_at6 masquerade
add rule inet %T hidden meta l4proto sctp iifname . meta l4proto . ct original proto-dst @masquerade_in masquerade
add chain inet %T postrouting { type nat hook postrouting priority 100; policy accept; }
add rule inet %T postrouting ct status dnat jump hidden
add rule inet %T postrouting ct status dnat ip saddr . ip daddr @hairpin4 masquerade
add rule inet %T postrouting ct status dnat ip6 saddr . ip6 daddr @hairpin6 masquerade
add rule inet %T postrouting oifname "%I" ct status dnat masquerade
add rule inet %T postrouting oifname "%O" ip saddr 127.0.0.0/8 masquerade
add rule inet %T postrouting oifname "%O" accept
add rule inet %T postrouting oifname @bridges ip saddr 127.0.0.0/8 masquerade
add rule inet %T postrouting oifname != @bridges ip saddr @masquerade4 masquerade
add rule inet %T postrouting oifname != @bridges ip6 saddr @masquerade6 masquerade

add chain inet %T forward { type filter hook forward priority 0; policy accept; }
add rule inet %T forward ct state established,related accept
add rule inet %T forward iifname . oifname @same_network accept
add rule inet %T forward iifname @internal drop
add rule inet %T forward iifname "%I" drop
add rule inet %T forward oifname "%O" ct status dnat accept
add rule inet %T forward oifname "%O" drop
add rule inet %T forward oifname "%I" ct status dnat accept
add rule inet %T forward oifname "%I" drop
add rule inet %T forward oifname @bridges ct status dnat accept
add rule inet %T forward oifname @bridges drop
)";

std::string with_names(std::string_view text, std::string_view table, std::string_view ways_out,
                       std::string_view ways_in) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const char name = text[i] == '%' && i + 1 < text.size() ? text[i + 1] : '\0';
    if (name != 'T' && name != 'O' && name != 'I') {
      out += text[i];
      continue;
    }
    out += name == 'T' ? table : name == 'O' ? ways_out : ways_in;
    ++i;
  }
  return out;
}

// As nftables lists it.
std::string subnet_text(const std::string& subnet) {
  const auto prefix = Prefix::parse(subnet);
  if (!prefix) return subnet;  // nftables says what is wrong with it
  return prefix->length == (prefix->base.v6 ? 128 : 32) ? prefix->base.str() : prefix->str();
}

// Of one network, "SET ELEMENT" as nftables takes and lists it.
void add_elements(const NetworkRules& n, std::set<std::string>& out) {
  out.insert("bridges " + n.bridge);
  out.insert(fmt::format("same_network {0} . {0}", n.bridge));
  const auto v6 = [](const std::string& subnet) { return subnet.find(':') != std::string::npos; };
  std::vector<std::string> subnets;
  for (const std::string& subnet : n.subnets) subnets.push_back(subnet_text(subnet));
  for (const std::string& from : subnets) {
    for (const std::string& to : subnets) {
      if (v6(from) == v6(to)) {
        out.insert(fmt::format("{} {} . {}", v6(from) ? "hairpin6" : "hairpin4", from, to));
      }
    }
  }
  if (n.internal) {
    out.insert("internal " + n.bridge);
    return;
  }
  for (const std::string& subnet : subnets) {
    out.insert(fmt::format("{} {}", v6(subnet) ? "masquerade6" : "masquerade4", subnet));
  }
}

std::string commands(std::string_view verb, std::string_view table,
                     const std::set<std::string>& elements) {
  std::string out;
  for (const std::string& element : elements) {
    const size_t space = element.find(' ');
    fmt::format_to(std::back_inserter(out), "{} element inet {} {} {{ {} }}\n", verb, table,
                   element.substr(0, space), element.substr(space + 1));
  }
  return out;
}

namespace json = boost::json;

// A word, a prefix, or several of them, as nftables takes them; empty for anything else.
std::string element_text(const json::value& element) {
  if (element.is_string()) return std::string(element.as_string());
  if (!element.is_object()) return {};
  const json::object& object = element.as_object();
  if (const json::value* prefix = object.if_contains("prefix"); prefix && prefix->is_object()) {
    const json::value* address = prefix->as_object().if_contains("addr");
    const json::value* bits = prefix->as_object().if_contains("len");
    if (address == nullptr || !address->is_string() || bits == nullptr || !bits->is_int64()) {
      return {};
    }
    return fmt::format("{}/{}", std::string_view(address->as_string()), bits->as_int64());
  }
  std::string out;
  const json::value* parts = object.if_contains("concat");
  if (parts == nullptr || !parts->is_array()) return {};
  for (const json::value& part : parts->as_array()) {
    out += (out.empty() ? "" : " . ") + element_text(part);
  }
  return out;
}

bool is_networks_set(std::string_view name) {
  return name == "bridges" || name == "internal" || name == "same_network" || name == "hairpin4" ||
         name == "hairpin6" || name == "masquerade4" || name == "masquerade6";
}

// What a listing has in the sets of networks.
Result<std::set<std::string>> listed_elements(std::string_view listing) {
  boost::system::error_code error;
  const json::value root = json::parse(json::string_view(listing.data(), listing.size()), error);
  const json::value* all =
      !error && root.is_object() ? root.as_object().if_contains("nftables") : nullptr;
  if (all == nullptr || !all->is_array()) {
    return fail(internal_error("cannot read nftables' listing"));
  }
  std::set<std::string> out;
  for (const json::value& entry : all->as_array()) {
    const json::value* set = entry.is_object() ? entry.as_object().if_contains("set") : nullptr;
    if (set == nullptr || !set->is_object()) continue;
    const json::value* name = set->as_object().if_contains("name");
    const json::value* elements = set->as_object().if_contains("elem");
    if (name == nullptr || !name->is_string() || elements == nullptr || !elements->is_array() ||
        !is_networks_set(std::string_view(name->as_string()))) {
      continue;
    }
    for (const json::value& element : elements->as_array()) {
      out.insert(fmt::format("{} {}", std::string_view(name->as_string()), element_text(element)));
    }
  }
  return out;
}

}  // namespace

std::string base_ruleset(std::string_view table, std::string_view ways_out,
                         std::string_view ways_in) {
  return with_names(kBase, table, ways_out, ways_in);
}

std::string delete_ruleset(std::string_view table) {
  return with_names("add table inet %T\ndelete table inet %T\n", table, {}, {});
}

std::string add_network_rules(std::string_view table, const NetworkRules& network) {
  std::set<std::string> elements;
  add_elements(network, elements);
  return commands("add", table, elements);
}

std::string remove_network_rules(std::string_view table, const NetworkRules& network) {
  std::set<std::string> elements;
  add_elements(network, elements);
  return commands("delete", table, elements);
}

Result<NetworkRulesRepair> repair_network_rules(std::string_view table, std::string_view listing,
                                                const std::vector<NetworkRules>& networks) {
  MUSTER_ASSIGN(const std::set<std::string> there, listed_elements(listing));
  std::set<std::string> wanted;
  for (const NetworkRules& network : networks) add_elements(network, wanted);
  std::set<std::string> missing;
  std::set<std::string> strange;
  std::set_difference(wanted.begin(), wanted.end(), there.begin(), there.end(),
                      std::inserter(missing, missing.end()));
  std::set_difference(there.begin(), there.end(), wanted.begin(), wanted.end(),
                      std::inserter(strange, strange.end()));
  // What cannot be written again cannot be taken out either.
  std::erase_if(strange, [](const std::string& element) { return element.ends_with(' '); });
  return NetworkRulesRepair{commands("delete", table, strange) + commands("add", table, missing),
                            missing.size() + strange.size()};
}

}  // namespace muster::overlay
