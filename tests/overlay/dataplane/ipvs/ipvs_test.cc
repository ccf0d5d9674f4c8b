#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <sstream>

#include "overlay/dataplane/vip/ipvs_place.h"
#include "overlay/dataplane/vip/ipvs_wire.h"
#include "tests/overlay/dataplane/client_lab.h"

// What IPVS alone does; what every balancer does is in ../dataplane/client_test.cc.
namespace muster::overlay::testing {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::Each;
using ::testing::Gt;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Le;
using ::testing::Not;
using ::testing::SizeIs;

constexpr int kPort = 8080;
const char* const kVip = "10.60.255.1";
const char* const kVip6 = "fd60::ff01";

std::string v4(size_t i) {
  return fmt::format("10.60.1.{}", i + 1);
}
std::string v6(size_t i) {
  return fmt::format("fd60::1:{:x}", i + 1);
}

class IpvsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(lab_.ok()) << lab_.box.error();
    ASSERT_TRUE(lab_.choice.ipvs) << "MUSTER_TEST_BALANCER is not ipvs";
  }
  void serve(size_t n) {
    std::vector<std::string> addresses;
    for (size_t i = 0; i < n; ++i) {
      lab_.task(fmt::format("t{}", i), "web", {v4(i), v6(i)});
      addresses.push_back(v4(i));
      addresses.push_back(v6(i));
    }
    servers_ = lab_.add("servers", addresses);
    server_ = std::make_unique<AddressServer>(servers_, kPort, addresses);
    lab_.service("web", {kVip, kVip6});
    lab_.apply({});
    client_ = lab_.add("c1", {"10.60.0.2", "fd60::2"});
    const Status attached = lab_.clients->attach("c1", client_);
    ASSERT_TRUE(attached.ok()) << attached.message();
  }
  std::map<std::string, size_t> spread(const std::string& address, size_t connections) {
    std::map<std::string, size_t> out;
    inside(client_, [&] {
      for (size_t i = 0; i < connections; ++i) {
        const UniqueFd fd = connect_tcp(address, kPort);
        ++out[fd ? ask_on(fd.get()).text : "refused"];
      }
    });
    return out;
  }
  std::string services() { return lab_.box.run(client_, "cat /proc/net/ip_vs"); }
  // Of each connection to `vip_hex` that is in this state: seconds until it is forgotten.
  std::vector<long> expiries(const std::string& vip_hex, const std::string& state) {
    std::istringstream lines(lab_.box.run(client_, "cat /proc/net/ip_vs_conn"));
    std::vector<long> out;
    for (std::string line; std::getline(lines, line);) {
      std::istringstream words(line);
      std::string protocol, from, from_port, to, to_port, backend, port, now;
      long expires = 0;
      if (words >> protocol >> from >> from_port >> to >> to_port >> backend >> port >> now >>
              expires &&
          to == vip_hex && now == state) {
        out.push_back(expires);
      }
    }
    return out;
  }
  // What a container's administrator may do.
  void remember_for(const IpvsTimeouts& timeouts) {
    const auto family = probe_ipvs();
    ASSERT_TRUE(family);
    inside(client_, [&] {
      auto socket = WireSocket::open(NETLINK_GENERIC);
      ASSERT_TRUE(socket);
      Wire wire;
      put_ipvs_timeouts(wire, *family, timeouts);
      const auto refused = socket->exchange(wire);
      ASSERT_TRUE(refused);
      ASSERT_THAT(*refused, IsEmpty());
    });
  }
  // As a process that begins anew, which finds the container.
  void succeed() {
    lab_.restart();
    const Status adopted = lab_.clients->adopt("c1", client_);
    ASSERT_TRUE(adopted.ok()) << adopted.message();
  }

  ClientLab lab_;
  std::string servers_, client_;
  std::unique_ptr<AddressServer> server_;
};

TEST_F(IpvsTest, ItIsIpvsThatLeads) {
  serve(2);
  EXPECT_THAT(spread(kVip, 4), SizeIs(2));
  EXPECT_THAT(services(), HasSubstr("FWM  49000000 wrr"));
  EXPECT_THAT(services(), HasSubstr("FWM  49000001 wrr"));
  const std::string rules = lab_.nft(client_);
  for (const char* line :
       {"type ipv4_addr : mark", "10.60.255.1 : 0x49000000", "10.60.255.1 : 0x49000001",
        "meta l4proto tcp ct state established accept", "meta mark set ip daddr map @flows4",
        "meta mark set ip6 daddr map @datagrams6", "ip daddr @vips4 goto refuse"}) {
    EXPECT_THAT(rules, HasSubstr(line));
  }
  EXPECT_EQ(lab_.box.run(client_,
                         "cd /proc/sys/net/ipv4/vs; echo $(cat conntrack expire_nodest_conn "
                         "conn_reuse_mode expire_quiescent_template)"),
            "1 1 0 1");
}

TEST_F(IpvsTest, LeastConnectionPrefersTheIdle) {
  serve(2);
  lab_.apply(lab_.balance("web", v1::EndpointSpec::LEAST_CONNECTION));
  inside(client_, [&] {
    std::vector<UniqueFd> held;
    std::map<std::string, size_t> met;
    for (int i = 0; i < 8; ++i) {
      held.push_back(connect_tcp(kVip, kPort));
      ++met[ask_on(held.back().get()).text];
    }
    EXPECT_EQ(met[v4(0)], 4u);
    EXPECT_EQ(met[v4(1)], 4u);
  });
}

TEST_F(IpvsTest, AHeldFlowGoesOnUntilItsTaskIsGone) {
  serve(2);
  inside(client_, [&] {
    const UniqueFd held = connect_tcp(kVip, kPort);
    ASSERT_TRUE(held);
    const std::string backend = ask_on(held.get()).text;
    const std::string id = backend == v4(0) ? "t0" : "t1";
    const std::string other = backend == v4(0) ? v4(1) : v4(0);
    const std::vector<std::string> both = backend == v4(0) ? std::vector<std::string>{v4(0), v6(0)}
                                                           : std::vector<std::string>{v4(1), v6(1)};
    for (const auto state : {v1::ENDPOINT_DRAINING, v1::ENDPOINT_RELEASED, v1::ENDPOINT_ABSENT}) {
      lab_.apply(lab_.task(id, "web", both, state));
      EXPECT_EQ(ask_on(held.get()).text, backend) << state;
      for (int i = 0; i < 4; ++i) {
        const UniqueFd fresh = connect_tcp(kVip, kPort);
        EXPECT_EQ(ask_on(fresh.get()).text, other) << state;
      }
      EXPECT_THAT(lab_.repair(), IsEmpty());
    }
    // The last one drains as well: what is new is refused, what runs goes on.
    const std::string last = id == "t0" ? "t1" : "t0";
    lab_.apply(lab_.no_task(last));
    int error = 0;
    EXPECT_FALSE(connect_tcp(kVip, kPort, &error));
    EXPECT_EQ(error, ECONNREFUSED);
    EXPECT_EQ(ask_on(held.get()).text, backend);
    // A successor knows that.
    succeed();
    lab_.apply({});
    EXPECT_EQ(ask_on(held.get()).text, backend);
    lab_.apply(lab_.no_task(id));
    EXPECT_EQ(ask_on(held.get()).text, "");
  });
}

TEST_F(IpvsTest, ASuccessorChangesNothingThatIsRight) {
  serve(3);
  const std::string before = services();
  const std::string rules = lab_.nft(client_);
  inside(client_, [&] {
    const UniqueFd held = connect_tcp(kVip, kPort);
    const std::string backend = ask_on(held.get()).text;
    succeed();
    EXPECT_THAT(lab_.repair(), IsEmpty());
    lab_.apply({});
    EXPECT_EQ(lab_.nft(client_), rules);
    EXPECT_EQ(ask_on(held.get()).text, backend);
  });
  EXPECT_THAT(lab_.repair(), IsEmpty());
  // Counts of connections aside.
  EXPECT_EQ(std::count(before.begin(), before.end(), '\n'), [&] {
    const std::string s = services();
    return std::count(s.begin(), s.end(), '\n');
  }());
}

TEST_F(IpvsTest, WhatSomebodyElseChangedIsMendedAndSaid) {
  serve(2);
  EXPECT_THAT(lab_.repair(), IsEmpty());
  lab_.box.run(client_, "nft add table inet other");
  EXPECT_THAT(lab_.repair(), IsEmpty());
  const std::string led =
      "container c1 did not lead virtual address 10.60.255.1 of service web as it should";
  for (const char* harm : {"nft flush ruleset", "nft flush chain inet muster_vip marking",
                           "nft delete element inet muster_vip vips4 '{ 10.60.255.1 }'",
                           "nft delete element inet muster_vip flows4 '{ 10.60.255.1 }'",
                           "nft delete element inet muster_vip datagrams4 '{ 10.60.255.1 }'",
                           "ip route del local 10.60.255.1 table local"}) {
    lab_.box.run(client_, harm);
    EXPECT_THAT(lab_.repair(), Contains(led)) << harm;
    EXPECT_THAT(lab_.repair(), IsEmpty()) << harm;
    EXPECT_THAT(spread(kVip, 4), SizeIs(2)) << harm;
  }
  // In IPVS itself.
  const auto family = probe_ipvs();
  ASSERT_TRUE(family);
  const VipWish gone{*Ip::parse(kVip), nullptr, nullptr, {}, {}, 0};
  auto harm = IpvsPlace::open(client_, *family, 0, false);
  ASSERT_TRUE(harm);
  ASSERT_TRUE((*harm)->apply({gone}).ok());
  EXPECT_THAT(lab_.repair(), Contains(led));
  EXPECT_THAT(lab_.repair(), IsEmpty());
  EXPECT_THAT(spread(kVip, 4), SizeIs(2));
  lab_.box.run(client_, "sysctl -qw net.ipv4.vs.conn_reuse_mode=1");
  EXPECT_THAT(lab_.repair(), SizeIs(1));
  EXPECT_THAT(lab_.repair(), IsEmpty());
}

// IPVS by itself forgets a connection after 15 minutes without a packet.
TEST_F(IpvsTest, WhatIsIdleIsRememberedForDays) {
  constexpr long kDays5 = 5L * 24 * 3600;
  const std::string vip_hex = "0A3CFF01";
  serve(2);
  inside(client_, [&] {
    const UniqueFd held = connect_tcp(kVip, kPort);
    ASSERT_NE(ask_on(held.get()).text, "");
    const auto days = AllOf(SizeIs(1), Each(AllOf(Gt(kDays5 - 3600), Le(kDays5))));
    EXPECT_THAT(expiries(vip_hex, "ESTABLISHED"), days);
    // By IPv6 it is the same table; datagrams keep IPVS's own time.
    const UniqueFd udp = open_udp(kVip, kPort);
    ASSERT_NE(ask_udp(udp.get()).text, "");
    EXPECT_THAT(expiries(vip_hex, "UDP"), AllOf(SizeIs(1), Each(AllOf(Gt(120), Le(300)))));
    // Somebody else's choice is mended, and said once; each of the three counts.
    for (const IpvsTimeouts& other :
         {IpvsTimeouts{900, 0, 0}, IpvsTimeouts{0, 30, 0}, IpvsTimeouts{0, 0, 10}}) {
      remember_for(other);
      EXPECT_THAT(lab_.repair(), SizeIs(1));
      EXPECT_THAT(lab_.repair(), IsEmpty());
    }
    remember_for({900, 0, 0});
    ASSERT_NE(ask_on(held.get()).text, "");
    EXPECT_THAT(expiries(vip_hex, "ESTABLISHED"), Each(Le(900)));
    EXPECT_THAT(lab_.repair(), SizeIs(1));
    ASSERT_NE(ask_on(held.get()).text, "");
    EXPECT_THAT(expiries(vip_hex, "ESTABLISHED"), days);
    // As a version before left it: who takes the container over mends it.
    remember_for({900, 0, 0});
    succeed();
    lab_.apply({});
    ASSERT_NE(ask_on(held.get()).text, "");
    EXPECT_THAT(expiries(vip_hex, "ESTABLISHED"), days);
  });
}

TEST_F(IpvsTest, AContainerKeepsTheBalancerItBeganWith) {
  serve(2);
  const auto nftables = choose_balancer("nftables");
  ASSERT_TRUE(nftables);
  lab_.choice = *nftables;
  succeed();
  lab_.apply({});
  inside(client_, [&] {
    const UniqueFd held = connect_tcp(kVip, kPort);
    EXPECT_NE(ask_on(held.get()).text, "");
  });
  EXPECT_THAT(services(), HasSubstr("FWM  49000000"));
  const std::string fresh = lab_.add("c2", {"10.60.0.3"});
  ASSERT_TRUE(lab_.clients->attach("c2", fresh).ok());
  EXPECT_THAT(lab_.nft(fresh), HasSubstr("numgen inc mod 64"));
  // The other way round.
  const auto automatic = choose_balancer("auto");
  ASSERT_TRUE(automatic);
  EXPECT_TRUE(automatic->ipvs);
  lab_.choice = *automatic;
  lab_.restart();
  for (const auto& [name, path] : {std::pair("c1", client_), std::pair("c2", fresh)}) {
    ASSERT_TRUE(lab_.clients->adopt(name, path).ok());
  }
  lab_.apply(lab_.no_task("t0"));
  EXPECT_THAT(lab_.nft(fresh), HasSubstr("numgen inc mod 64"));
  EXPECT_THAT(lab_.nft(fresh), Not(HasSubstr(v4(0) + ",")));
  EXPECT_THAT(services(), HasSubstr("FWM  49000000"));
  EXPECT_THAT(spread(kVip, 2), SizeIs(1));
}

}  // namespace
}  // namespace muster::overlay::testing
