#include "overlay/dns/netd/proxy_header.h"

#include <fmt/format.h>

#include <string_view>

namespace muster::overlay::dns {
namespace {

// Section 2.2 of the specification.
constexpr std::string_view kSignature("\r\n\r\n\0\r\nQUIT\n", 12);
constexpr char kVersion2Proxy = 0x21;
constexpr char kTcp4 = 0x11;
constexpr char kTcp6 = 0x21;

void put_number(std::string& out, Uint128 value, int bytes) {
  for (int i = bytes - 1; i >= 0; --i) out += static_cast<char>(value >> (8 * i) & 0xff);
}

std::string text_header(const SocketAddress& client, const SocketAddress& destination) {
  if (client.ip.v6 != destination.ip.v6) return "PROXY UNKNOWN\r\n";
  return fmt::format("PROXY TCP{} {} {} {} {}\r\n", client.ip.v6 ? 6 : 4, client.ip.str(),
                     destination.ip.str(), client.port, destination.port);
}

std::string binary_header(const SocketAddress& client, const SocketAddress& destination) {
  std::string out(kSignature);
  out += kVersion2Proxy;
  if (client.ip.v6 != destination.ip.v6) {
    out += '\0';  // unspecified
    put_number(out, 0, 2);
    return out;
  }
  const int bytes = client.ip.bits() / 8;
  out += client.ip.v6 ? kTcp6 : kTcp4;
  put_number(out, static_cast<unsigned>(2 * bytes + 4), 2);
  put_number(out, client.ip.value, bytes);
  put_number(out, destination.ip.value, bytes);
  put_number(out, client.port, 2);
  put_number(out, destination.port, 2);
  return out;
}

}  // namespace

std::string proxy_header(uint32_t version, const SocketAddress& client,
                         const SocketAddress& destination) {
  if (version == 1) return text_header(client, destination);
  if (version == 2) return binary_header(client, destination);
  return {};
}

}  // namespace muster::overlay::dns
