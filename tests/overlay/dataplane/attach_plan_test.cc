#include "overlay/dataplane/attach_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/overlay/dataplane/sandbox.h"

namespace muster::overlay::testing {
namespace {

struct Net {
  const char* driver;
  bool internal = false;
  bool ingress = false;
};

// "eth0 bridge+default eth1 segment eth2 way out"
std::string planned(const std::vector<Net>& networks, bool host_ports) {
  ContainerNetworkRequest request;
  request.container_id = "c1";
  request.host_ports = host_ports;
  for (size_t i = 0; i < networks.size(); ++i) {
    const std::string net = fmt::format("10.{}.0", 50 + i);
    auto network =
        bridge_network(fmt::format("net-{}", i), net + ".0/24", net + ".1", networks[i].internal);
    network.mutable_spec()->set_driver(networks[i].driver);
    network.mutable_spec()->set_ingress(networks[i].ingress);
    request.links.push_back({network, {net + ".2/24"}, ""});
  }
  const Names names("n1");
  const auto plan = plan_attach(names, request);
  if (!plan) return plan.error().message();
  std::string out;
  for (const LinkPlan& link : plan->links) {
    const bool way = link.home == LinkPlan::Home::kWay;
    if (way) {
      EXPECT_EQ(&link, &plan->links.back());
      EXPECT_EQ(link.veth.host_name, plan->leads_out ? names.way_out("c1") : names.way_in("c1"));
    }
    out += fmt::format("{} {}{} ", link.veth.peer_name,
                       way                                    ? plan->leads_out ? "out" : "in"
                       : link.home == LinkPlan::Home::kBridge ? "bridge"
                                                              : "segment",
                       link.default_gateways.empty() ? "" : "+default");
  }
  if (!out.empty()) out.pop_back();
  return out;
}

TEST(AttachPlan, WhoGetsAWayToItsNode) {
  const Net bridge{"bridge"}, closed{"bridge", true}, overlay{"overlay"}, shut{"overlay", true},
      ingress{"overlay", false, true};
  EXPECT_EQ(planned({}, false), "");
  EXPECT_EQ(planned({}, true), "");
  EXPECT_EQ(planned({bridge}, false), "eth0 bridge+default");
  EXPECT_EQ(planned({bridge}, true), "eth0 bridge+default");
  EXPECT_EQ(planned({closed, bridge, bridge}, false),
            "eth0 bridge eth1 bridge+default eth2 bridge");
  EXPECT_EQ(planned({overlay}, false), "eth0 segment eth1 out");
  EXPECT_EQ(planned({overlay, overlay}, true), "eth0 segment eth1 segment eth2 out");
  EXPECT_EQ(planned({overlay, bridge}, false), "eth0 segment eth1 bridge+default");
  EXPECT_EQ(planned({overlay, bridge}, true), "eth0 segment eth1 bridge+default eth2 in");
  EXPECT_EQ(planned({overlay, closed}, false), "eth0 segment eth1 bridge eth2 out");
  EXPECT_EQ(planned({shut}, false), "eth0 segment");
  EXPECT_EQ(planned({shut}, true), "eth0 segment eth1 in");
  EXPECT_EQ(planned({shut, overlay}, false), "eth0 segment eth1 segment eth2 out");
  // The ingress network makes no internal container less internal.
  EXPECT_EQ(planned({shut, ingress}, true), "eth0 segment eth1 segment eth2 in");
  EXPECT_EQ(planned({ingress}, true), "eth0 segment eth1 out");
  EXPECT_EQ(planned({closed, ingress}, false), "eth0 bridge eth1 segment");
}

TEST(AttachPlan, TooManyNetworks) {
  EXPECT_EQ(planned(std::vector<Net>(33, Net{"overlay"}), false),
            "a container can be in at most 32 networks");
}

}  // namespace
}  // namespace muster::overlay::testing
