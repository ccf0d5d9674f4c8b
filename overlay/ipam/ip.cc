#include "overlay/ipam/ip.h"

#include <arpa/inet.h>

#include <charconv>
#include <cstring>

namespace muster::overlay {
namespace {

Uint128 host_mask(int bits, int length) {
  const int host_bits = bits - length;
  if (host_bits <= 0) return 0;
  if (host_bits >= 128) return ~Uint128{0};
  return (Uint128{1} << host_bits) - 1;
}

}  // namespace

Result<Ip> Ip::parse(std::string_view text) {
  char copy[INET6_ADDRSTRLEN] = {};
  if (text.empty() || text.size() >= sizeof(copy)) {
    return fail(invalid_argument("\"{}\" is not an IP address", text));
  }
  std::memcpy(copy, text.data(), text.size());
  unsigned char raw[16];
  const bool v6 = text.find(':') != std::string_view::npos;
  if (inet_pton(v6 ? AF_INET6 : AF_INET, copy, raw) != 1) {
    return fail(invalid_argument("\"{}\" is not an IP address", text));
  }
  Ip ip{v6, 0};
  for (int i = 0; i < (v6 ? 16 : 4); ++i) ip.value = (ip.value << 8) | raw[i];
  return ip;
}

std::string Ip::str() const {
  unsigned char raw[16];
  Uint128 rest = value;
  for (int i = (v6 ? 16 : 4) - 1; i >= 0; --i) {
    raw[i] = static_cast<unsigned char>(rest & 0xff);
    rest >>= 8;
  }
  if (!v6) return fmt::format("{}.{}.{}.{}", raw[0], raw[1], raw[2], raw[3]);
  char text[INET6_ADDRSTRLEN];
  inet_ntop(AF_INET6, raw, text, sizeof(text));
  return text;
}

Result<Cidr> Cidr::parse(std::string_view text) {
  const size_t slash = text.find('/');
  if (slash == std::string_view::npos) {
    return fail(invalid_argument("\"{}\" is not in CIDR form (10.0.0.0/24)", text));
  }
  auto ip = Ip::parse(text.substr(0, slash));
  const std::string_view digits = text.substr(slash + 1);
  int length = -1;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), length);
  const bool number = error == std::errc() && end == digits.data() + digits.size();
  if (!ip || !number || length < 0 || length > ip->bits()) {
    return fail(invalid_argument("\"{}\" is not in CIDR form (10.0.0.0/24)", text));
  }
  return Cidr{*ip, length};
}

Result<Cidr> Cidr::parse_lenient(std::string_view text) {
  if (text.find('/') != std::string_view::npos) return parse(text);
  MUSTER_ASSIGN(const Ip ip, Ip::parse(text));
  return Cidr{ip, ip.bits()};
}

std::string Cidr::str() const {
  return fmt::format("{}/{}", ip.str(), length);
}

Result<Prefix> Prefix::parse(std::string_view text) {
  MUSTER_ASSIGN(Cidr cidr, Cidr::parse(text));
  cidr.ip.value &= ~host_mask(cidr.ip.bits(), cidr.length);
  return Prefix{cidr.ip, cidr.length};
}

Ip Prefix::last() const {
  return {base.v6, base.value | host_mask(base.bits(), length)};
}

std::string Prefix::str() const {
  return fmt::format("{}/{}", base.str(), length);
}

std::string mac_of(const Ip& ip) {
  uint32_t low = static_cast<uint32_t>(ip.value);
  if (ip.v6) {
    for (int shift = 32; shift < 128; shift += 32) {
      low = low * 0x9e3779b1u ^ static_cast<uint32_t>(ip.value >> shift);
    }
  }
  return fmt::format("02:42:{:02x}:{:02x}:{:02x}:{:02x}", low >> 24, (low >> 16) & 0xff,
                     (low >> 8) & 0xff, low & 0xff);
}

}  // namespace muster::overlay
