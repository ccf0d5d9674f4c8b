#include "agent/routes/port_plan.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "overlay/ipam/port_options.h"

namespace muster::agent {
namespace {

using overlay::PublishedPort;
using testing::ElementsAre;
using testing::IsEmpty;

PublishedPort port(const std::string& text, std::vector<std::string> backends,
                   const std::string& owner = "web") {
  PublishedPort out;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(
      "published_port: 8080 target_port: 80 " + text, &out.port))
      << text;
  out.owner = owner;
  out.backends = std::move(backends);
  return out;
}

std::vector<std::string> texts(const PortPlan& plan) {
  std::vector<std::string> out;
  for (const PublishedPort& p : plan.kernel) {
    out.push_back("kernel " + overlay::published_name(p.port) +
                  (p.port.client_address() == v1::PortConfig::MASQUERADE ? " masquerade" : ""));
  }
  for (const PortRelay& r : plan.relays) {
    std::string text = r.relay.id() + " at";
    for (const auto& where : r.relay.listen()) text += " " + where;
    text += " to";
    for (const auto& backend : r.relay.backends()) text += " " + backend;
    if (r.relay.proxy_protocol() != 0) text += " v" + std::to_string(r.relay.proxy_protocol());
    out.push_back(text + (r.loopback ? " (loopback)" : ""));
  }
  return out;
}

TEST(PortPlan, WhoLeadsAPort) {
  const std::vector<std::string> v4 = {"10.0.0.5", "10.0.0.6"};
  const std::vector<std::string> both = {"10.0.0.5", "fd00::5"};
  const std::vector<std::string> v6 = {"fd00::5"};
  const struct {
    const char* what;
    PublishedPort port;
    bool masquerade;
    std::vector<std::string> want;
  } cases[] = {
      {"the kernel, and at ::1 netd by way of it",
       port("", v4),
       false,
       {"kernel 8080/tcp", "tcp/8080/::1 at [::1]:8080 to 127.0.0.1:8080 (loopback)"}},
      {"where no IPv4 leads on, netd alone",
       port("", v6),
       false,
       {"kernel 8080/tcp", "tcp/8080/::1 at [::1]:8080 to [fd00::5]:80 (loopback)"}},
      {"without tasks nobody", port("", {}), false, {"kernel 8080/tcp"}},
      {"datagrams",
       port("protocol: UDP", v4),
       false,
       {"kernel 8080/udp", "udp/8080/::1 at [::1]:8080 to 127.0.0.1:8080 (loopback)"}},
      {"datagrams at the loopback of IPv6",
       port("protocol: UDP bind: '::1'", v6),
       false,
       {"udp/8080/::1 at [::1]:8080 to [fd00::5]:80"}},
      {"SCTP is the kernel's, there, too",
       port("protocol: SCTP", both),
       false,
       {"kernel 8080/sctp"}},
      {"and there alone",
       port("protocol: SCTP bind: '::1'", both),
       false,
       {"kernel [::1]:8080/sctp"}},
      {"of the host",
       port("mode: HOST", v4),
       true,
       {"kernel 8080/tcp", "tcp/8080/::1 at [::1]:8080 to 127.0.0.1:8080 (loopback)"}},
      {"an address", port("bind: '10.9.9.9'", v4), false, {"kernel 10.9.9.9:8080/tcp"}},
      {"the loopback",
       port("bind: 'lo'", v4),
       false,
       {"kernel lo:8080/tcp", "tcp/8080/::1 at [::1]:8080 to 127.0.0.1:8080 (loopback)"}},
      {"the loopback of IPv6",
       port("bind: '::1'", both),
       false,
       {"tcp/8080/::1 at [::1]:8080 to 10.0.0.5:80"}},
      {"a large cluster",
       port("protocol: UDP", v4),
       true,
       {"kernel 8080/udp masquerade", "udp/8080/::1 at [::1]:8080 to 127.0.0.1:8080 (loopback)"}},
      {"kept in spite of it",
       port("protocol: UDP client_address: KEEP", v4),
       true,
       {"kernel 8080/udp", "udp/8080/::1 at [::1]:8080 to 127.0.0.1:8080 (loopback)"}},
      {"with a header",
       port("proxy_protocol: 2", both),
       true,
       {"tcp/8080 at 0.0.0.0:8080 [::]:8080 to 10.0.0.5:80 v2"}},
      {"with a header, but no task", port("proxy_protocol: 2", {}), false, {}},
      {"with a header at an address",
       port("proxy_protocol: 1 bind: 'fd00::9'", v4),
       false,
       {"tcp/8080/fd00::9 at [fd00::9]:8080 to 10.0.0.5:80 10.0.0.6:80 v1"}},
      {"with a header at an interface",
       port("proxy_protocol: 1 bind: 'eth1'", v6),
       false,
       {"tcp/8080/eth1 at 0.0.0.0%eth1:8080 [::%eth1]:8080 to [fd00::5]:80 v1"}},
  };
  for (const auto& c : cases)
    EXPECT_EQ(texts(plan_ports({c.port}, c.masquerade)), c.want) << c.what;
}

TEST(PortPlan, ARelayLeadsAsOftenAsTheKernelWould) {
  PublishedPort published = port("proxy_protocol: 2", {"10.0.0.5", "10.0.0.6", "10.0.0.7"});
  const auto relay = [&] { return plan_ports({published}, false).relays.at(0).relay; };
  EXPECT_THAT(relay().weights(), IsEmpty()) << "all alike";
  EXPECT_FALSE(relay().by_client());
  published.weights = {{"10.0.0.7", 5}, {"10.0.0.5", 1}};
  EXPECT_THAT(relay().weights(), ElementsAre(1, 1, 5));
  published.balancing = v1::EndpointSpec::LEAST_CONNECTION;
  EXPECT_FALSE(relay().by_client());
  published.balancing = v1::EndpointSpec::SOURCE_HASH;
  EXPECT_TRUE(relay().by_client());
  published.balancing = v1::EndpointSpec::ROUND_ROBIN;
  published.affinity_ns = 1;
  EXPECT_TRUE(relay().by_client());
}

std::vector<std::string> merged(std::vector<PublishedPort> own, std::vector<PublishedPort> far) {
  std::vector<std::string> out;
  for (const PublishedPort& p : merge_ports(std::move(own), std::move(far))) {
    std::string text = p.owner + " " + overlay::published_name(p.port);
    for (const auto& backend : p.backends) text += " " + backend;
    out.push_back(text);
  }
  return out;
}

TEST(PortPlan, OwnTasksStandBehindWhatTheManagersTell) {
  EXPECT_THAT(merged({port("", {"a"})}, {port("", {"c", "b"}), port("", {}, "other")}),
              ElementsAre("web 8080/tcp a b c", "other 8080/tcp"));
  // A local port leads to own tasks alone.
  EXPECT_THAT(merged({port("local: true", {"a"})}, {port("local: true", {"b"})}),
              ElementsAre("web 8080/tcp a"));
  EXPECT_THAT(merged({}, {port("local: true", {"b"})}), ElementsAre("web 8080/tcp"));
  // The managers know better where it answers, and it may be two places.
  EXPECT_THAT(merged({port("", {"a"})}, {port("bind: 'eth0'", {"b"}), port("bind: 'eth1'", {"b"})}),
              ElementsAre("web eth0:8080/tcp a b", "web eth1:8080/tcp a b"));
  // What they have not told of yet stays.
  EXPECT_THAT(merged({port("mode: HOST", {"a"}, "task")}, {}), ElementsAre("task 8080/tcp a"));
}

TEST(PortPlan, WhoseAddressesOfThisNodeAreIsKept) {
  PublishedPort own = port("", {"a"});
  own.containers = {{"a", "c1"}};
  const auto all = merge_ports({own}, {port("", {"b"})});
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0].containers, own.containers);
}

TEST(PortPlan, WhatIsTakenIsSaidInTheManagersWords) {
  v1::PortConfig taken;
  taken.set_published_port(80);
  EXPECT_EQ(overlay::taken_limitation(taken),
            "port 80/tcp is taken by another program of this host");
  EXPECT_EQ(overlay::taken_at_loopback_limitation(taken),
            "port 80/tcp is taken by another program of this host at ::1, and answers everywhere "
            "else");
}

}  // namespace
}  // namespace muster::agent
