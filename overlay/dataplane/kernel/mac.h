#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace muster::overlay {

// Six bytes of an Ethernet address.
using Mac = std::array<uint8_t, 6>;
// "02:42:0a:00:00:02"; nullopt for anything else.
std::optional<Mac> read_mac(std::string_view text);
// ... that an interface can have: of no group, and not zero.
std::optional<Mac> parse_mac(std::string_view text);
std::string to_string(const Mac& mac);

}  // namespace muster::overlay
