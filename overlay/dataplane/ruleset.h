#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace muster::overlay {

// The table of one instance, as nftables commands. Pure text.

// Name of an empty chain that tells which version of these rules a table holds.
std::string_view ruleset_marker();

// Makes the table: dispatch of published ports, outbound NAT, hairpin, isolation. Replaces a former
// one entirely.
// `ways_out`, `ways_in`: what matches the host's ends of containers' ways (Names).
std::string base_ruleset(std::string_view table, std::string_view ways_out,
                         std::string_view ways_in);
std::string delete_ruleset(std::string_view table);

// One network on this node.
struct NetworkRules {
  std::string bridge;
  bool internal = false;
  std::vector<std::string> subnets;  // CIDR, of both families
};

// Adding what is there already is fine.
std::string add_network_rules(std::string_view table, const NetworkRules& network);
// Must have been added as given.
std::string remove_network_rules(std::string_view table, const NetworkRules& network);

}  // namespace muster::overlay
