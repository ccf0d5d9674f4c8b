// What somebody changes inside of containers is found and mended, or let be.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>

#include "overlay/dataplane/container/change_watch.h"
#include "overlay/dataplane/container/inside_record.h"
#include "overlay/dataplane/container/mesh_task.h"
#include "overlay/dataplane/kernel/namespaces.h"
#include "overlay/dns/netd/namespace_sockets.h"
#include "tests/overlay/dataplane/node_network_test.h"

namespace muster::overlay::testing {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

// A task of a service that publishes ports through the mesh: eth0 in the ingress network, eth1 in
// another one, and eth2 to its node.
class UpkeepTest : public NodeNetworkTest {
 protected:
  void SetUp() override {
    NodeNetworkTest::SetUp();
    ingress_.mutable_spec()->set_ingress(true);
    auto* pool = ingress_.mutable_state()->add_pools();
    pool->set_subnet("fd54::/64");
    pool->set_gateway("fd54::1");
    ContainerNetworkRequest r = request("c1", ingress_, "10.50.0.5/24");
    r.links[0].addresses.push_back("fd54::5/64");
    r.links.push_back({back_, {"10.51.0.5/24"}, "", false});
    v1::PortConfig port;
    port.set_protocol(v1::PortConfig::UDP);
    port.set_target_port(53);
    port.set_published_port(5353);
    r.ports.push_back(port);
    ns_ = attach(r);
    asked_ = r;
    was_ = state();
    ASSERT_THAT(was_, HasSubstr("lookup 77"));
    ASSERT_THAT(was_, HasSubstr("default via 169.254.77.1"));
  }

  // All of it that is ours.
  std::string state() {
    return box_.run(ns_,
                    "ip rule; ip -6 rule; for f in 4 6; do ip -$f route show table 77; "
                    "ip -$f route show table main | grep -v ^fe80::/64 | sort; done; ip neigh show "
                    "nud permanent; "
                    "ip -o addr show up scope global | sed 's/valid_lft.*//' | sort");
  }
  void restart() {
    net_.reset();
    net_ = box_.make_network();
    ASSERT_NE(net_, nullptr);
  }

  v1::Network ingress_ = overlay_network("net-a", "10.50.0.0/24", "10.50.0.1");
  v1::Network back_ = overlay_network("net-b", "10.51.0.0/24", "10.51.0.1");
  ContainerNetworkRequest asked_;
  std::string ns_;
  std::string was_;
};

struct Harm {
  const char* command;
  const char* said;
};
constexpr Harm kHarms[] = {
    {"ip rule del pref 74", "lacked routing rule 74"},
    {"ip -6 rule del pref 75", "lacked routing rule 75"},
    {"ip rule del pref 76", "lacked routing rule 76"},
    {"ip route flush table 77", "lacked its default route in table 77"},
    {"ip route del 10.50.0.0/24 table 77", "lacked its route to 10.50.0.0/24 in table 77"},
    {"ip -6 route flush table 77", "in table 77"},
    {"ip route del default", "lacked its default route"},
    {"ip route del 10.51.0.0/24", "lacked its route to 10.51.0.0/24"},
    {"ip route del 10.50.0.0/24", "lacked its route to 10.50.0.0/24"},
    {"ip -6 route del fd54::/64", "lacked its route to fd54::/64"},
    {"ip neigh del 169.254.77.1 dev eth0", "did not know 169.254.77.1 at eth0"},
    {"ip neigh replace 169.254.77.1 lladdr 02:00:00:00:00:01 dev eth0 nud permanent",
     "did not know 169.254.77.1 at eth0"},
    {"ip neigh del fe80::4d:1 dev eth0", "did not know fe80::4d:1 at eth0"},
    {"ip addr del 10.51.0.5/24 dev eth1", "lacked address 10.51.0.5/24 at eth1"},
    {"ip addr del 10.50.0.5/24 dev eth0", "lacked address 10.50.0.5/24 at eth0"},
    {"ip addr del fd54::5/64 dev eth0", "lacked address fd54::5/64 at eth0"},
    {"ip addr flush dev eth2", "lacked its default route"},
    {"ip link set eth0 down; ip link set eth0 up", "in table 77"},
    {"ip link set eth2 down; ip link set eth2 up", "lacked its default route"},
};

TEST_F(UpkeepTest, WhatSomebodyElseChangedIsMendedAndTold) {
  ASSERT_THAT(net_->repair(), IsEmpty());
  for (const Harm& harm : kHarms) {
    box_.run(ns_, harm.command);
    ASSERT_NE(state(), was_) << harm.command;
    EXPECT_THAT(net_->repair(), Contains(HasSubstr(harm.said))) << harm.command;
    EXPECT_EQ(state(), was_) << harm.command;
    EXPECT_THAT(net_->repair(), IsEmpty()) << harm.command;
  }
}

TEST_F(UpkeepTest, OfContainersOfAFormerProcess) {
  restart();
  EXPECT_THAT(net_->repair(), IsEmpty());
  for (const Harm& harm : kHarms) {
    box_.run(ns_, harm.command);
    EXPECT_THAT(net_->repair(), Contains(HasSubstr(harm.said))) << harm.command;
    EXPECT_EQ(state(), was_) << harm.command;
  }
}

TEST_F(UpkeepTest, WhatWasChangedWhileNobodyLookedIsMendedAndTold) {
  for (const Harm& harm : kHarms) {
    net_.reset();
    box_.run(ns_, harm.command);
    ASSERT_NE(state(), was_) << harm.command;
    restart();
    EXPECT_EQ(state(), was_) << harm.command;
    EXPECT_THAT(net_->repair(), Contains(HasSubstr(harm.said))) << harm.command;
    EXPECT_THAT(net_->repair(), IsEmpty()) << harm.command;
    EXPECT_EQ(state(), was_) << harm.command;
  }
  // Nothing is told of what was there.
  restart();
  EXPECT_THAT(net_->repair(), IsEmpty());
}

TEST_F(UpkeepTest, AnInterfaceThatItSetDownWhileNobodyLookedStaysSo) {
  net_.reset();
  box_.run(ns_, "ip link set eth2 down; ip link del eth1; ip rule del pref 74");
  restart();
  EXPECT_THAT(box_.run(ns_, "ip -o link show eth2"), Not(HasSubstr(",UP")));
  EXPECT_THAT(box_.run(ns_, "ip -o link"), Not(HasSubstr("eth1")));
  EXPECT_THAT(net_->repair(),
              ::testing::ElementsAre(HasSubstr("container c1 lacked routing rule 74")));
  box_.run(ns_, "ip link set eth2 up");
  EXPECT_THAT(net_->repair(), Contains(HasSubstr("lacked its default route")));
}

// One that a former version made is kept as it was found, and from then on looked after.
TEST_F(UpkeepTest, WithoutARecordWhatIsFoundCounts) {
  const std::string record = box_.dir() + "/n1/inside/c1";
  ASSERT_EQ(box_.run("", "head -1 " + record), "muster-inside 1");
  for (const std::string& harm : {"rm " + record, "echo muster-inside 2 > " + record,
                                  "truncate -s -1 " + record, "echo 'rule 74 x' >> " + record}) {
    net_.reset();
    box_.run("", harm);
    box_.run(ns_, "ip rule del pref 74");
    const std::string found = state();
    restart();
    EXPECT_THAT(net_->repair(), IsEmpty()) << harm;
    EXPECT_EQ(state(), found) << harm;
    net_.reset();
    box_.run(ns_, "ip rule del pref 76");
    restart();
    EXPECT_EQ(state(), found) << harm;
    EXPECT_THAT(net_->repair(), Contains(HasSubstr("lacked routing rule 76"))) << harm;
    ContainerNetworkRequest r = asked_;
    attach(r);  // which completes it
    EXPECT_EQ(state(), was_) << harm;
  }
  ASSERT_TRUE(net_->detach("c1").ok());
  EXPECT_EQ(box_.run("", "ls " + box_.dir() + "/n1/inside"), "");
}

TEST_F(UpkeepTest, AChangeOfNetworksThatWasBrokenOffIsNoHarm) {
  // As a process leaves it that is killed when the interface is gone.
  const std::string record = box_.dir() + "/n1/inside/c1";
  net_.reset();
  box_.run("", "sed -i '1a changing' " + record);
  box_.run(ns_, "ip link del eth1");
  restart();
  EXPECT_THAT(net_->repair(), IsEmpty());
  ContainerNetworkRequest r = asked_;
  r.links[1].addresses = {"10.51.0.6/24"};
  r.links[1].by_hand = true;
  const Status entered = net_->reconnect(r, nullptr);
  ASSERT_TRUE(entered.ok()) << entered.message();
  EXPECT_EQ(box_.run("", "grep -c changing " + record), "0");
  net_.reset();
  box_.run(ns_, "ip addr flush to 10.51.0.0/24; ip rule del pref 74");
  restart();
  EXPECT_THAT(net_->repair(), ::testing::AllOf(Contains(HasSubstr("lacked address 10.51.0.6/24")),
                                               Contains(HasSubstr("lacked routing rule 74"))));
}

TEST(InsideRecordTest, ComesBackAsItWas) {
  const std::string text =
      "muster-inside 1\nchanging\nlink 2 eth0\naddress 2 10.50.0.5/24 -\n"
      "address 3 fd00::2/128 fd00::1\nroute 254 0.0.0.0/0 3 172.18.0.1 -\n"
      "route 77 fd54::/64 2 - fd54::5\nrule 74 0 10.50.0.5 0 0 77 0\n"
      "rule 75 1 - 17 53 254 1\nneighbour 2 169.254.77.1 02:42:a9:fe:4d:01\n";
  const auto record = parse_inside_record(text);
  ASSERT_TRUE(record) << record.error().message();
  EXPECT_TRUE(record->changing);
  EXPECT_EQ(format_inside_record(*record), text);
  for (const char* bad :
       {"", "muster-inside 1", "muster-inside 10\n", "muster-inside 1\nlink 2\n",
        "muster-inside 1\nlink x eth0\n", "muster-inside 1\naddress 2 10.0.0.1/24\n",
        "muster-inside 1\nroute 254 10.0.0.0/24\n", "muster-inside 1\nodd 1\n"}) {
    EXPECT_FALSE(parse_inside_record(bad)) << bad;
  }
}

TEST_F(UpkeepTest, WhatAContainerDoesWithItsInterfacesIsItsOwn) {
  for (const char* own :
       {"ip link set eth1 down", "ip route replace default via 10.51.0.1 dev eth1 onlink",
        "ip addr add 10.51.0.99/24 dev eth1; ip rule add pref 100 lookup 100; "
        "ip route add 203.0.113.0/24 dev eth1; ip route add default dev eth1 table 100",
        "ip link add own0 type veth peer name own1; ip link set own0 up; ip addr add "
        "198.51.100.1/24 dev own0"}) {
    box_.run(ns_, own);
    const std::string chosen = state();
    EXPECT_NE(chosen, was_) << own;
    EXPECT_THAT(net_->repair(), IsEmpty()) << own;
    EXPECT_THAT(net_->repair(), IsEmpty()) << own;
    EXPECT_EQ(state(), chosen) << own;
    EXPECT_THAT(box_.run(ns_, "ip -o link show eth2"), HasSubstr(",UP")) << own;
    // A process that finds it so knows what was given, and that this is not missing.
    restart();
    EXPECT_THAT(net_->repair(), IsEmpty()) << own;
    EXPECT_EQ(state(), chosen) << own;
    box_.run(ns_, "ip link set eth1 up; ip route replace default via 172.18.0.1 dev eth2");
    (void)net_->repair();
  }
}

TEST_F(UpkeepTest, AnInterfaceThatIsDownKeepsNothingElseFromBeingMended) {
  box_.run(ns_, "ip link set eth1 down; ip rule del pref 74");
  EXPECT_THAT(net_->repair(), Contains(HasSubstr("lacked routing rule 74")));
  EXPECT_THAT(box_.run(ns_, "ip -o link show eth1"), Not(HasSubstr(",UP")));
  box_.run(ns_, "ip link del eth1; ip rule del pref 76");
  EXPECT_THAT(net_->repair(), Contains(HasSubstr("lacked routing rule 76")));
  EXPECT_THAT(net_->repair(), IsEmpty());
}

TEST_F(UpkeepTest, ANetworkThatItLeavesIsNotMissed) {
  ContainerNetworkRequest r = request("c1", ingress_, "10.50.0.5/24");
  r.links[0].addresses.push_back("fd54::5/64");
  const Status left = net_->reconnect(r, nullptr);
  ASSERT_TRUE(left.ok()) << left.message();
  EXPECT_THAT(box_.run(ns_, "ip -o link"), Not(HasSubstr("eth1")));
  EXPECT_THAT(net_->repair(), IsEmpty());
  box_.run(ns_, "ip rule del pref 74");
  EXPECT_THAT(net_->repair(), Contains(HasSubstr("lacked routing rule 74")));
  // And one that it enters is.
  r.links.push_back({back_, {"10.51.0.6/24"}, "", true});
  ASSERT_TRUE(net_->reconnect(r, nullptr).ok());
  EXPECT_THAT(net_->repair(), IsEmpty());
  box_.run(ns_, "ip addr flush to 10.51.0.0/24");
  EXPECT_THAT(net_->repair(), Contains(HasSubstr("lacked address 10.51.0.6/24")));
}

TEST(ChangeWatchTest, TellsOfWhatMattersAndOfNothingElse) {
  Sandbox box;
  ASSERT_TRUE(box.ok()) << box.error();
  // What the kernel does by itself later is over: no address of its own making, which it would try
  // first, and both ends are up.
  ASSERT_THAT(
      box.run("",
              "ip link del up0; echo 1 >/proc/sys/net/ipv6/conf/default/addr_gen_mode; "
              "ip link add d0 type veth peer name d1; ip link set d1 up; ip link set d0 up; "
              "ip addr add 10.9.0.1/24 dev d0; "
              "for i in $(seq 1000); do [ $(ip -br link | grep -c '^d.* UP ') = 2 ] && echo up && "
              "exit; busybox usleep 10000; done"),
      HasSubstr("up"));
  auto opened = ChangeWatch::open();
  ASSERT_TRUE(opened) << opened.error().message();
  ChangeWatch& watch = *opened;
  EXPECT_FALSE(watch.moved());
  const std::string gateway = mesh_gateway(false).str();
  const std::string gateway6 = mesh_gateway(true).str();
  const struct {
    std::string command;
    bool matters;
    bool more_later = false;
  } cases[] = {
      {"ip route add local 10.9.9.9 dev lo", false},
      {"ip route del local 10.9.9.9 dev lo", false},
      {"ip neigh add 10.9.0.7 lladdr 02:00:00:00:00:07 dev d0", false},
      {"ip neigh del 10.9.0.7 dev d0", false},
      {"ip neigh add fd09::7 lladdr 02:00:00:00:00:07 dev d0", false},
      {"ip neigh add " + gateway + " lladdr 02:00:00:00:00:07 dev d0 nud permanent", true},
      {"ip neigh del " + gateway + " dev d0", true},
      {"ip neigh add " + gateway6 + " lladdr 02:00:00:00:00:07 dev d0 nud permanent", true},
      {"ip route add 10.8.0.0/16 dev d0", true},
      {"ip route del 10.8.0.0/16 dev d0", true},
      {"ip route add 10.8.0.0/16 dev d0 table 77", true},
      {"ip -6 route add fd08::/64 dev d0", true},
      {"ip rule add pref 74 lookup 77", true},
      {"ip -6 rule add pref 74 lookup 77", true},
      {"ip addr add 10.9.0.2/24 dev d0", true},
      {"ip addr add fd09::2/64 dev d0 nodad", true, true},
      {"ip link set d0 down", true, true},
      // More than its socket holds.
      {"for i in $(seq 250); do echo route add 10.7.$i.0/24 dev d0; done | { ip link set d0 up; "
       "ip -b -; }",
       true, true},
  };
  for (const auto& c : cases) {
    box.run("", c.command);
    EXPECT_EQ(watch.moved(), c.matters) << c.command;
    EXPECT_TRUE(c.more_later || !watch.moved()) << c.command;
  }
}

// ---------------------------------------------------------------- names

class ResolverRulesTest : public NodeNetworkTest {
 protected:
  void SetUp() override {
    NodeNetworkTest::SetUp();
    ns_ = attach(
        request("c1", overlay_network("net-a", "10.50.0.0/24", "10.50.0.1"), "10.50.0.5/24"));
    ASSERT_TRUE(hopper_.open().ok());
    auto opened = hopper_.open_resolver(ns_);
    ASSERT_TRUE(opened) << opened.error().message();
    sockets_ = *std::move(opened);
  }
  // Whether what the container asks arrives, by both protocols.
  bool led() {
    box_.run(ns_,
             "echo question | timeout 20 socat -t0 - UDP4:127.0.0.11:53; "
             "timeout 20 socat /dev/null TCP4:127.0.0.11:53 && touch " +
                 box_.dir() + "/tcp");
    std::array<char, 64> buffer;
    const bool udp = recv(sockets_.udp.get(), buffer.data(), buffer.size(), MSG_DONTWAIT) > 0;
    return udp && box_.run("", "rm " + box_.dir() + "/tcp && echo yes") == "yes";
  }
  bool mend() {
    const auto mended = hopper_.mend_resolver(sockets_);
    EXPECT_TRUE(mended) << mended.error().message();
    return mended && *mended;
  }

  std::string ns_;
  dns::NamespaceHopper hopper_;
  dns::NamespaceHopper::ResolverSockets sockets_;
};

TEST_F(ResolverRulesTest, WhatAFirewallOfTheContainersTakesComesBack) {
  ASSERT_TRUE(led());
  EXPECT_FALSE(mend());
  for (const char* harm :
       {"nft flush ruleset", "nft delete table inet muster_dns",
        "nft flush chain inet muster_dns output",
        "nft delete rule inet muster_dns output handle "
        "$(nft -a list chain inet muster_dns output | sed -n 's/.* udp .*handle //p')",
        "nft delete rule inet muster_dns output handle "
        "$(nft -a list chain inet muster_dns output | sed -n 's/.* tcp .*handle //p')",
        "nft insert rule inet muster_dns output ip daddr 127.0.0.11 drop",
        // As a version before had them.
        "nft list table inet muster_dns | sed 's/ ct state new//' >$$.nft; "
        "nft delete table inet muster_dns; nft -f $$.nft; rm $$.nft",
        "nft 'chain inet muster_dns output { policy drop; }'"}) {
    const std::string was = box_.run(ns_, "nft list table inet muster_dns");
    box_.run(ns_, harm);
    EXPECT_NE(box_.run(ns_, "nft list table inet muster_dns 2>&1"), was) << harm;
    EXPECT_TRUE(mend()) << harm;
    EXPECT_EQ(box_.run(ns_, "nft list table inet muster_dns"), was) << harm;
    EXPECT_TRUE(led()) << harm;
    EXPECT_FALSE(mend()) << harm;
  }
}

TEST_F(ResolverRulesTest, AFirewallOfTheContainersOwnIsLetBe) {
  box_.run(ns_,
           "nft add table inet own; nft 'add chain inet own in { type filter hook input "
           "priority 0; policy accept; }'; nft add rule inet own in tcp dport 22 drop");
  EXPECT_FALSE(mend());
  EXPECT_THAT(box_.run(ns_, "nft list ruleset"), HasSubstr("tcp dport 22 drop"));
  EXPECT_TRUE(led());
}

TEST_F(ResolverRulesTest, ASuccessorMendsWhatItFinds) {
  for (const bool harmed : {false, true}) {
    if (harmed) box_.run(ns_, "nft flush chain inet muster_dns output");
    // As they come from a predecessor: the sockets alone.
    sockets_.rules.clear();
    sockets_.generation = 0;
    EXPECT_EQ(mend(), harmed);
    EXPECT_TRUE(led());
    EXPECT_FALSE(mend());
  }
  // And one without a predecessor makes sockets of its own.
  box_.run(ns_, "nft flush chain inet muster_dns output");
  sockets_ = {};
  auto opened = hopper_.open_resolver(ns_);
  ASSERT_TRUE(opened) << opened.error().message();
  sockets_ = *std::move(opened);
  EXPECT_TRUE(led());
}

}  // namespace
}  // namespace muster::overlay::testing
