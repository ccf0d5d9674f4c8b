#include "overlay/dataplane/container/attach_plan.h"

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

// ---------------------------------------------------------------- while it runs

struct Has {
  std::map<std::string, size_t> overlays;
  std::set<std::string> interfaces;
  bool way_out = false, way_in = false;
};
struct Wants {
  std::string id;
  bool by_hand = false, internal = false, ingress = false, bridge = false;
};

// "eth0 net-a (there) eth2 net-b way eth3 leave 1"
std::string replanned(const Has& has, const std::vector<Wants>& wants, bool host_ports = false) {
  ContainerNetworkRequest request;
  request.container_id = "c1";
  request.host_ports = host_ports;
  for (const Wants& each : wants) {
    v1::Network network = overlay_network(each.id, "10.50.0.0/24", "10.50.0.1", each.internal);
    if (each.bridge) network.mutable_spec()->set_driver("bridge");
    network.mutable_spec()->set_ingress(each.ingress);
    request.links.push_back({network, {"10.50.0.2/24"}, "", each.by_hand});
  }
  PresentLinks present;
  present.overlays = has.overlays;
  for (const auto& [id, number] : has.overlays) present.numbers.insert(number);
  present.interfaces = has.interfaces;
  present.interfaces.insert("lo");
  present.way_out = has.way_out;
  present.way = has.way_out || has.way_in;
  const Names names("n1");
  const auto plan = plan_reconnect(names, request, present);
  if (!plan) return plan.error().message();
  std::string out;
  for (const LinkPlan& link : plan->make.links) {
    const bool way = link.home == LinkPlan::Home::kWay;
    EXPECT_EQ(link.veth.peer_index, 0);
    out += fmt::format("{}{}{} ", link.veth.peer_name, way ? " way" : " " + link.network->id(),
                       link.exists ? " (there)" : "");
    EXPECT_TRUE(!way || plan->make.leads_out);
  }
  for (const size_t number : plan->leave) out += fmt::format("leave {} ", number);
  if (plan->drop_way) out += "drop way ";
  if (!out.empty()) out.pop_back();
  return out;
}

TEST(AttachPlan, OfTwoFamiliesAKernelWithoutIpv6TakesIpv4) {
  ContainerNetworkRequest request;
  request.links.push_back({{}, {"10.50.0.2/24", "fd50::2/64"}, ""});
  request.links.push_back({{}, {"10.51.0.2/24"}, ""});
  const ContainerNetworkRequest left = without_ipv6(request);
  EXPECT_EQ(left.links[0].addresses, std::vector<std::string>{"10.50.0.2/24"});
  EXPECT_EQ(left.links[1].addresses, request.links[1].addresses);
}

TEST(ReconnectPlan, WhatIsThereStaysWhereItIs) {
  const Wants a{"a"}, b{"b", true}, c{"c", true};
  const Has plain{{{"a", 0}}, {"eth0", "eth1"}, true};
  EXPECT_EQ(replanned(plain, {a}), "eth0 a (there)");
  // The way out is eth1.
  EXPECT_EQ(replanned(plain, {a, b}), "eth0 a (there) eth2 b");
  EXPECT_EQ(replanned(plain, {a, b, c}), "eth0 a (there) eth2 b eth3 c");
  const Has more{{{"a", 0}, {"b", 2}}, {"eth0", "eth1", "eth2"}, true};
  EXPECT_EQ(replanned(more, {a, b}), "eth0 a (there) eth2 b (there)");
  EXPECT_EQ(replanned(more, {a}), "eth0 a (there) leave 2");
  EXPECT_EQ(replanned(more, {a, c}), "eth0 a (there) eth3 c leave 2");
  // Noted, but not made when the process died.
  const Has half{{{"a", 0}, {"b", 2}}, {"eth0", "eth1"}, true};
  EXPECT_EQ(replanned(half, {a, b}), "eth0 a (there) eth2 b");
  // A bridge of the node is none of its business.
  const Has bridged{{}, {"eth0"}};
  EXPECT_EQ(replanned(bridged, {{"n", false, false, false, true}, b}), "eth1 b");
}

TEST(ReconnectPlan, AWayOutComesWithTheFirstNetworkThatHasOneAndGoesWithTheLast) {
  const Wants shut{"shut", false, true}, open{"open", true}, vault{"vault", true, true};
  const Has inside{{{"shut", 0}}, {"eth0"}};
  EXPECT_EQ(replanned(inside, {shut, vault}), "eth0 shut (there) eth1 vault");
  EXPECT_EQ(replanned(inside, {shut, open}), "eth0 shut (there) eth1 open eth2 way");
  const Has out{{{"shut", 0}, {"open", 1}}, {"eth0", "eth1", "eth2"}, true};
  EXPECT_EQ(replanned(out, {shut, open}), "eth0 shut (there) eth1 open (there)");
  EXPECT_EQ(replanned(out, {shut}), "eth0 shut (there) leave 1 drop way");
  EXPECT_EQ(replanned(out, {shut}, true), "eth0 shut (there) leave 1");
  // Only ports of the host lead in: that stays as it is.
  const Has ported{{{"shut", 0}}, {"eth0", "eth1"}, false, true};
  EXPECT_EQ(replanned(ported, {shut, open}, true), "eth0 shut (there) eth2 open");
  EXPECT_EQ(replanned(ported, {shut}, true), "eth0 shut (there)");
  // In the mesh alone it had one, and an internal network takes it from nobody.
  const Has mesh{{{"in", 0}}, {"eth0", "eth1"}, true};
  EXPECT_EQ(replanned(mesh, {{"in", false, false, true}, vault}), "eth0 in (there) eth2 vault");
}

TEST(ReconnectPlan, NumbersEnd) {
  Has full;
  std::vector<Wants> wants;
  for (size_t i = 0; i < kNetworksMax; ++i) {
    full.overlays[fmt::format("n{}", i)] = i;
    full.interfaces.insert(fmt::format("eth{}", i));
    wants.push_back({fmt::format("n{}", i)});
  }
  wants.push_back({"more", true});
  EXPECT_EQ(replanned(full, wants), "a container can be in at most 32 networks");
}

}  // namespace
}  // namespace muster::overlay::testing
