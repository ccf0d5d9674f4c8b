#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/status.h"

namespace muster::overlay {

__extension__ typedef unsigned __int128 Uint128;

// An IPv4 or IPv6 address as a number, so that pools can count. IPv4 sorts before IPv6.
struct Ip {
  bool v6 = false;
  Uint128 value = 0;

  static Result<Ip> parse(std::string_view text);
  static Ip v4(uint32_t value) { return {false, value}; }

  int bits() const { return v6 ? 128 : 32; }
  std::string str() const;

  friend bool operator==(const Ip&, const Ip&) = default;
  friend std::strong_ordering operator<=>(const Ip& a, const Ip& b) {
    if (a.v6 != b.v6) return a.v6 <=> b.v6;
    return a.value <=> b.value;
  }
};

// A CIDR prefix. `base` has its host bits cleared.
struct Prefix {
  Ip base;
  int length = 0;

  // "10.0.0.0/24"; host bits are cleared. INVALID_ARGUMENT for anything else.
  static Result<Prefix> parse(std::string_view text);

  Ip first() const { return base; }
  Ip last() const;
  bool contains(const Ip& ip) const { return ip.v6 == base.v6 && ip >= base && ip <= last(); }
  bool contains(const Prefix& p) const { return contains(p.base) && p.length >= length; }
  bool overlaps(const Prefix& p) const { return contains(p.base) || p.contains(base); }
  std::string str() const;

  friend bool operator==(const Prefix&, const Prefix&) = default;
};

// An address with the length of the subnet it lives in: "10.0.1.5/24", host bits kept.
struct Cidr {
  Ip ip;
  int length = 0;

  static Result<Cidr> parse(std::string_view text);
  // Also takes an address without a length, which then means a single host.
  static Result<Cidr> parse_lenient(std::string_view text);
  std::string str() const;
};

// The MAC address of an interface with this address: 02:42 and the four bytes of an IPv4 address,
// as Docker does, so that neighbours can be worked out without asking; for IPv6, four bytes mixed
// from all sixteen.
std::string mac_of(const Ip& ip);

}  // namespace muster::overlay
