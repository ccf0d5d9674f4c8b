#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace muster::overlay {

// A chain of nftables (iptables' own are such, too, where iptables is the one of nftables) at the
// host's forward hook that drops what none of its rules accepts.
struct DroppingChain {
  std::string family, table, name;

  friend bool operator==(const DroppingChain&, const DroppingChain&) = default;
};

// From what nftables prints as JSON: of all chains, and of one table. Pure. What cannot be read
// holds nothing.
std::vector<DroppingChain> dropping_chains(std::string_view chains);
// Whether a rule looks at one of muster's interfaces (mb..., mg..., mp..., mi...; kernel/names.h).
bool names_our_interfaces(std::string_view table);

// The chains of the caller's network namespace that may keep the host from forwarding for
// containers: those whose table has no rule about muster's interfaces. They are what other programs
// want, so nothing is done about them.
Result<std::vector<DroppingChain>> forward_drops();

}  // namespace muster::overlay
