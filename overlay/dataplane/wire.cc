#include "overlay/dataplane/wire.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <cstdio>

namespace muster::overlay {

std::string mac_bytes(const std::string& text) {
  unsigned b[6] = {};
  std::sscanf(text.c_str(), "%2x:%2x:%2x:%2x:%2x:%2x", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5]);
  std::string out;
  for (const unsigned byte : b) out += static_cast<char>(byte);
  return out;
}

std::string mac_text(const nlattr* attribute) {
  if (nla_len(attribute) != 6) return "";
  const auto* b = static_cast<const unsigned char*>(nla_data(attribute));
  return fmt::format("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", b[0], b[1], b[2], b[3], b[4],
                     b[5]);
}

std::string ip_bytes(const Ip& ip) {
  std::string out(ip.v6 ? 16 : 4, '\0');
  Uint128 rest = ip.value;
  for (auto it = out.rbegin(); it != out.rend(); ++it, rest >>= 8) {
    *it = static_cast<char>(rest & 0xff);
  }
  return out;
}

Ip ip_of(int family, const nlattr* attribute) {
  Ip ip{family == AF_INET6, 0};
  const auto* bytes = static_cast<const unsigned char*>(nla_data(attribute));
  for (int i = 0; i < nla_len(attribute); ++i) ip.value = (ip.value << 8) | bytes[i];
  return ip;
}

}  // namespace muster::overlay
