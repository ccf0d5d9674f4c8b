#include "overlay/ipam/port_options.h"

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <string>

namespace muster::overlay {
namespace {

TEST(PortOptions, BindsHaveOneWayOfWriting) {
  const struct {
    const char *text, *want;  // "-": refused
  } cases[] = {
      {"", ""},
      {"*", ""},
      {"0.0.0.0", ""},
      {"::", ""},
      {"[::]", ""},
      {"10.0.0.5", "10.0.0.5"},
      {"127.0.0.1", "127.0.0.1"},
      {"[FD00:0:0::1]", "fd00::1"},
      {"eth0", "eth0"},
      {"bond0.120", "bond0.120"},
      {"lo", "lo"},
      {"fe80::1", "-"},
      {"10.0.0", "-"},
      {"10.0.0.256", "-"},
      {"[eth0]", "-"},
      {"eth0:1", "-"},
      {"a/b", "-"},
      {"..", "-"},
      {"eth0\" accept", "-"},
      {"sixteen-letters-", "-"},
  };
  for (const auto& c : cases) {
    const auto got = parse_bind(c.text);
    EXPECT_EQ(got ? *got : "-", c.want) << c.text;
  }
}

TEST(PortOptions, BindsMeetUnlessTheyAreDifferentAddressesOrInterfaces) {
  const struct {
    const char *a, *b;
    bool meet;
  } cases[] = {
      {"", "", true},
      {"", "10.0.0.5", true},
      {"10.0.0.5", "10.0.0.5", true},
      {"", "eth0", true},
      {"eth0", "eth0", true},
      {"eth0", "eth1", false},
      {"eth0", "fd00::1", true},
      {"10.0.0.5", "10.0.0.6", false},
  };
  for (const auto& c : cases) {
    EXPECT_EQ(binds_overlap(c.a, c.b), c.meet) << c.a << " " << c.b;
    EXPECT_EQ(binds_overlap(c.b, c.a), c.meet) << c.b << " " << c.a;
  }
}

TEST(PortOptions, WhatDoesNotGoTogether) {
  const struct {
    const char *port, *want;
  } cases[] = {
      {"target_port: 80", ""},
      {"local: true bind: '10.0.0.5' client_address: MASQUERADE", ""},
      {"local: true proxy_protocol: 2", ""},
      {"mode: HOST bind: 'eth1'", ""},
      {"bind: '0.0.0.0'", "a port's bind address has to be written \"\", not \"0.0.0.0\""},
      {"bind: 'a b'",
       "a port cannot be bound to \"a b\": it is neither an IP address nor the name of an "
       "interface"},
      {"mode: HOST local: true",
       "local is for ports published in ingress mode: one in host mode leads to its own node's "
       "task anyway"},
      {"mode: HOST client_address: KEEP",
       "client-address is for ports published in ingress mode: one in host mode keeps the client's "
       "address anyway"},
      {"mode: HOST bind: '::1'",
       "a port in host mode cannot be bound to ::1 alone: bind it to the interface lo, by which "
       "programs of the node reach it at 127.0.0.1 and ::1"},
      {"mode: HOST bind: 'lo'", ""},
      {"mode: HOST bind: 'fd00::1'", ""},
      {"mode: HOST proxy_protocol: 1",
       "proxy-protocol is for ports published in ingress mode: one in host mode keeps the client's "
       "address anyway"},
      {"proxy_protocol: 3", "the PROXY protocol has versions 1 and 2, not 3"},
      {"protocol: SCTP proxy_protocol: 1", "the PROXY protocol is for TCP ports, not for sctp"},
      {"proxy_protocol: 1 client_address: MASQUERADE",
       "client-address does not go with proxy-protocol: the connection comes from a node, and its "
       "header names the client"},
  };
  for (const auto& c : cases) {
    v1::PortConfig port;
    ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(c.port, &port)) << c.port;
    EXPECT_EQ(check_port_options(port).message(), c.want) << c.port;
  }
}

TEST(PortOptions, PortsAreNamedByWhereTheyAnswer) {
  v1::PortConfig port;
  port.set_published_port(8080);
  EXPECT_EQ(published_name(port), "8080/tcp");
  port.set_protocol(v1::PortConfig::UDP);
  port.set_bind("fd00::1");
  EXPECT_EQ(published_name(port), "[fd00::1]:8080/udp");
  port.set_bind("eth1");
  EXPECT_EQ(published_name(port), "eth1:8080/udp");
}

}  // namespace
}  // namespace muster::overlay
