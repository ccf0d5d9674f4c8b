#include "overlay/dataplane/kernel/mac.h"

#include <fmt/format.h>

namespace muster::overlay {

std::optional<Mac> read_mac(std::string_view text) {
  const auto digit = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
  };
  if (text.size() != 17) return std::nullopt;
  Mac mac{};
  for (size_t i = 0; i < mac.size(); ++i) {
    const int high = digit(text[3 * i]);
    const int low = digit(text[3 * i + 1]);
    if (high < 0 || low < 0 || (i < 5 && text[3 * i + 2] != ':')) return std::nullopt;
    mac[i] = static_cast<uint8_t>(high * 16 + low);
  }
  return mac;
}

std::optional<Mac> parse_mac(std::string_view text) {
  const auto mac = read_mac(text);
  // Frames to groups are flooded, and nobody has the address of zeroes.
  if (!mac || ((*mac)[0] & 1) != 0 || *mac == Mac{}) return std::nullopt;
  return mac;
}

std::string to_string(const Mac& m) {
  return fmt::format("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", m[0], m[1], m[2], m[3], m[4],
                     m[5]);
}

}  // namespace muster::overlay
