#include "overlay/dataplane/mesh/mesh_ruleset.h"

#include <fmt/format.h>

#include <boost/json.hpp>
#include <iterator>

#include "overlay/dataplane/container/mesh_task.h"

namespace muster::overlay {
namespace {

namespace json = boost::json;

// Marks of connections: this and the node's index.
constexpr uint32_t kMarkBase = 0x4d000000;
constexpr uint32_t kIndexMax = 65535;

// br_netfilter shows bridged frames to the inet hooks. The nat chain is empty and has to be there:
// with it, a connection whose answers would look like those of another (same client, another zone)
// gets another source port.
// Marks and zones are looked up for every frame of a connection that has none yet, not for its
// first one alone: a node may have sent before this one was told of it.
constexpr std::string_view kInet = R"(
add table inet {0}
delete table inet {0}
add table inet {0}
add map inet {0} marks {{ typeof ether saddr : meta mark; }}
add map inet {0} zones {{ typeof ether saddr : ct zone; }}
add chain inet {0} raw {{ type filter hook prerouting priority -300; policy accept; }}
add rule inet {0} raw ct original zone set ether saddr map @zones
add chain inet {0} pre {{ type filter hook prerouting priority -150; policy accept; }}
add rule inet {0} pre ct direction original ct mark 0 ct mark set ether saddr map @marks
add rule inet {0} pre ether daddr {1} ct direction reply meta mark set ct mark
add chain inet {0} post {{ type nat hook postrouting priority 100; policy accept; }}
)";

// Behind br_netfilter, whose hook has priority 0, and before the bridge looks where the frame goes.
// The mark ends here: the tunnel would take it into its own search for a route.
constexpr std::string_view kBridge = R"(
add table bridge {0}
delete table bridge {0}
add table bridge {0}
add map bridge {0} macs {{ type mark : ether_addr; }}
add chain bridge {0} pre {{ type filter hook prerouting priority 10; policy accept; }}
add rule bridge {0} pre ether daddr {1} ether daddr set meta mark map @macs meta mark set 0 accept
add rule bridge {0} pre ether daddr {1} counter drop
)";

constexpr std::string_view kHost = R"(
add table inet {0}
delete table inet {0}
add table inet {0}
add chain inet {0} input {{ type filter hook input priority 0; policy accept; }}
add rule inet {0} input iifname != "{1}" accept
add rule inet {0} input ct state established,related accept
add rule inet {0} input meta l4proto {{ icmp, icmpv6 }} accept
add rule inet {0} input counter drop
add chain inet {0} forward {{ type filter hook forward priority 0; policy accept; }}
add rule inet {0} forward iifname != "{1}" oifname != "{1}" accept
add rule inet {0} forward ct state established,related accept
add rule inet {0} forward oifname "{1}" ct status dnat accept
add rule inet {0} forward counter drop
add chain inet {0} post {{ type nat hook postrouting priority 99; policy accept; }}
add rule inet {0} post oifname != "{1}" accept
add rule inet {0} post fib saddr type local masquerade
)";

// The maps' names are those of MeshMaps' members.
struct MapName {
  std::string_view family;
  std::string_view name;
  MeshMaps::Map MeshMaps::*member;
};
constexpr MapName kMaps[] = {{"inet", "marks", &MeshMaps::marks},
                             {"inet", "zones", &MeshMaps::zones},
                             {"bridge", "macs", &MeshMaps::macs}};

std::string mark_text(uint32_t mark) {
  return fmt::format("0x{:08x}", mark);
}

void elements(std::string& out, std::string_view verb, const MapName& map,
              const MeshMaps::Map& what) {
  if (what.empty()) return;
  fmt::format_to(std::back_inserter(out), "{} element {} {} {} {{ ", verb, map.family,
                 kMeshTableName, map.name);
  for (auto it = what.begin(); it != what.end(); ++it) {
    fmt::format_to(std::back_inserter(out), "{}{} : {}", it == what.begin() ? "" : ", ", it->first,
                   it->second);
  }
  out += " }\n";
}

std::string contents(std::string_view family, const MeshMaps& maps) {
  std::string out;
  for (const MapName& map : kMaps) {
    if (map.family == family) elements(out, "add", map, maps.*map.member);
  }
  return out;
}

// A MAC, or a number: `mark` says which way it is written.
std::string scalar(const json::value& v, bool mark) {
  if (v.is_string()) return std::string(v.as_string());
  if (!v.is_int64()) return "";
  const auto number = static_cast<uint32_t>(v.as_int64());
  return mark ? mark_text(number) : std::to_string(number);
}

Status read_maps(std::string_view listing, std::string_view family, MeshMaps& into) {
  boost::system::error_code error;
  const json::value root = json::parse(json::string_view(listing.data(), listing.size()), error);
  const json::value* all =
      !error && root.is_object() ? root.as_object().if_contains("nftables") : nullptr;
  if (all == nullptr || !all->is_array()) return internal_error("cannot read nftables' listing");
  for (const json::value& entry : all->as_array()) {
    const json::value* map = entry.is_object() ? entry.as_object().if_contains("map") : nullptr;
    if (map == nullptr || !map->is_object()) continue;
    const json::value* name = map->as_object().if_contains("name");
    const json::value* elem = map->as_object().if_contains("elem");
    if (name == nullptr || !name->is_string() || elem == nullptr || !elem->is_array()) continue;
    const std::string_view called(name->as_string().data(), name->as_string().size());
    for (const MapName& known : kMaps) {
      if (known.family != family || known.name != called) continue;
      const bool marks = known.member != &MeshMaps::zones;
      for (const json::value& pair : elem->as_array()) {
        if (!pair.is_array() || pair.as_array().size() != 2) continue;
        (into.*known.member)[scalar(pair.as_array()[0], marks)] = scalar(pair.as_array()[1], marks);
      }
    }
  }
  return ok_status();
}

}  // namespace

MeshMaps mesh_maps(const std::map<std::string, v1::IngressNode>& nodes,
                   std::vector<std::string>* left_out) {
  MeshMaps out;
  const auto leave = [&](const std::string& id, const std::string& why) {
    if (left_out != nullptr) {
      left_out->push_back(fmt::format(
          "clients that come in by node {} get no answers from tasks of this one: {}", id, why));
    }
  };
  for (const auto& [id, node] : nodes) {
    if (node.index() == 0 || node.index() > kIndexMax) {
      leave(id, fmt::format("its index {} is not from 1 to {}", node.index(), kIndexMax));
      continue;
    }
    if (node.mac().size() != 17) {
      leave(id, fmt::format("\"{}\" is no MAC", node.mac()));
      continue;
    }
    const std::string mark = mark_text(kMarkBase | node.index());
    if (out.macs.contains(mark) || out.marks.contains(node.mac())) {
      leave(id, "another node has its index or MAC");
      continue;
    }
    out.marks.emplace(node.mac(), mark);
    out.zones.emplace(node.mac(), std::to_string(node.index()));
    out.macs.emplace(mark, node.mac());
  }
  return out;
}

NftTable mesh_inet_table(const MeshMaps& maps) {
  return {"inet", std::string(kMeshTableName),
          fmt::format(fmt::runtime(kInet), kMeshTableName, kMeshGatewayMac), nullptr,
          contents("inet", maps)};
}

NftTable mesh_bridge_table(const MeshMaps& maps) {
  return {"bridge", std::string(kMeshTableName),
          fmt::format(fmt::runtime(kBridge), kMeshTableName, kMeshGatewayMac), nullptr,
          contents("bridge", maps)};
}

std::string exchange_mesh_maps(const MeshMaps& from, const MeshMaps& to) {
  std::string out;
  std::string in;
  for (const MapName& map : kMaps) {
    const MeshMaps::Map& was = from.*map.member;
    const MeshMaps::Map& wanted = to.*map.member;
    MeshMaps::Map gone, fresh;
    for (const auto& [key, value] : was) {
      const auto at = wanted.find(key);
      if (at == wanted.end() || at->second != value) gone.emplace(key, value);
    }
    for (const auto& [key, value] : wanted) {
      const auto at = was.find(key);
      if (at == was.end() || at->second != value) fresh.emplace(key, value);
    }
    elements(out, "delete", map, gone);
    elements(in, "add", map, fresh);
  }
  return out + in;
}

Result<MeshMaps> parse_mesh_maps(std::string_view inet_listing, std::string_view bridge_listing) {
  MeshMaps out;
  MUSTER_TRY(read_maps(inet_listing, "inet", out));
  MUSTER_TRY(read_maps(bridge_listing, "bridge", out));
  return out;
}

NftTable mesh_host_table(std::string_view name, std::string_view interface,
                         const std::vector<std::string>& subnets) {
  std::string commands = fmt::format(fmt::runtime(kHost), name, interface);
  // A task that calls a published port at this node's own address in the network: the answer must
  // not go past this node.
  for (const std::string& subnet : subnets) {
    fmt::format_to(std::back_inserter(commands), "add rule inet {} post {} saddr {} masquerade\n",
                   name, subnet.find(':') == std::string::npos ? "ip" : "ip6", subnet);
  }
  return {"inet", std::string(name), std::move(commands)};
}

}  // namespace muster::overlay
