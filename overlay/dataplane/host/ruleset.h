#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace muster::overlay {

// The table of one instance, as nftables commands. Pure text.

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

// What brings the sets of the listed table ("nft -j list table") in line with the networks that
// there are, and how many elements differ.
struct NetworkRulesRepair {
  std::string commands;
  size_t differences = 0;
};
Result<NetworkRulesRepair> repair_network_rules(std::string_view table, std::string_view listing,
                                                const std::vector<NetworkRules>& networks);

}  // namespace muster::overlay
