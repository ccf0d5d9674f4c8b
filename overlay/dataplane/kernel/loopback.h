#pragma once

#include <string>

namespace muster::overlay {

// Whether an address, as 4 or 16 bytes of the wire, leads to where it is sent from: 127/8, also as
// an IPv4 address in IPv6, and ::1.
inline bool is_loopback(const std::string& address) {
  static const std::string kMapped("\0\0\0\0\0\0\0\0\0\0\xff\xff", 12);
  static const std::string kLoopback6 = std::string(15, '\0') + '\1';
  if (address.size() == 16 && address.starts_with(kMapped)) return address[12] == 127;
  return address.size() == 4 ? address[0] == 127 : address == kLoopback6;
}

}  // namespace muster::overlay
