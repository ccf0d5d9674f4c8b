#pragma once

#include <netlink/attr.h>

#include <string>

#include "overlay/ipam/ip.h"

namespace muster::overlay {

// Addresses as netlink carries them. For .cc files alone: libnl's headers are large.

// Six bytes; zeroes when the text is no MAC.
std::string mac_bytes(const std::string& text);
// "02:42:0a:00:00:02"; empty when the attribute is no MAC.
std::string mac_text(const nlattr* attribute);
// In network order.
std::string ip_bytes(const Ip& ip);
Ip ip_of(int family, const nlattr* attribute);

}  // namespace muster::overlay
