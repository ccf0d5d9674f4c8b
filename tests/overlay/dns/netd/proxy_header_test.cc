#include "overlay/dns/netd/proxy_header.h"

#include <gtest/gtest.h>

#include <string>

namespace muster::overlay::dns {
namespace {

SocketAddress end_of(const char* ip, uint16_t port) {
  return {*Ip::parse(ip), port};
}

// The specification's own examples, and its layout byte by byte.
TEST(ProxyHeader, NamesBothEnds) {
  const struct {
    uint32_t version;
    SocketAddress client, destination;
    std::string want;
  } cases[] = {
      {1, end_of("192.168.0.1", 56324), end_of("192.168.0.11", 443),
       "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n"},
      {1, end_of("255.255.255.255", 65535), end_of("255.255.255.255", 65535),
       "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n"},
      {1, end_of("2001:db8::1", 1), end_of("fd00::2", 80),
       "PROXY TCP6 2001:db8::1 fd00::2 1 80\r\n"},
      {1, end_of("2001:db8::1", 1), end_of("10.0.0.1", 80), "PROXY UNKNOWN\r\n"},
      {2, end_of("192.0.2.1", 0x1234), end_of("198.51.100.2", 80),
       std::string("\r\n\r\n\0\r\nQUIT\n"
                   "\x21\x11\x00\x0c"
                   "\xc0\x00\x02\x01"
                   "\xc6\x33\x64\x02"
                   "\x12\x34\x00\x50",
                   28)},
      {2, end_of("2001:db8::1", 256), end_of("::2", 443),
       std::string("\r\n\r\n\0\r\nQUIT\n"
                   "\x21\x21\x00\x24"
                   "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"
                   "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x02"
                   "\x01\x00\x01\xbb",
                   52)},
      {2, end_of("2001:db8::1", 1), end_of("10.0.0.1", 80),
       std::string("\r\n\r\n\0\r\nQUIT\n\x21\x00\x00\x00", 16)},
      {0, end_of("10.0.0.1", 1), end_of("10.0.0.2", 2), ""},
      {3, end_of("10.0.0.1", 1), end_of("10.0.0.2", 2), ""},
  };
  for (const auto& c : cases) {
    EXPECT_EQ(proxy_header(c.version, c.client, c.destination), c.want)
        << c.version << " " << c.client.ip.str();
  }
  // Version 1 fits into the 107 bytes that a receiver has to be able to take.
  const auto widest = end_of("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535);
  EXPECT_LE(proxy_header(1, widest, widest).size(), 107u);
}

}  // namespace
}  // namespace muster::overlay::dns
