#include "overlay/dataplane/kernel/wire.h"

#include <sys/socket.h>

#include <cstring>

#include "overlay/dataplane/kernel/mac.h"

namespace muster::overlay {

std::string mac_bytes(const std::string& text) {
  const Mac mac = read_mac(text).value_or(Mac{});
  return {mac.begin(), mac.end()};
}

std::string mac_text(const nlattr* attribute) {
  Mac mac{};
  if (nla_len(attribute) != static_cast<int>(mac.size())) return "";
  std::memcpy(mac.data(), nla_data(attribute), mac.size());
  return to_string(mac);
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
