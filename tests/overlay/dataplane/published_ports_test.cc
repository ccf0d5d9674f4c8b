// Published ports: who else has the port, and more tasks than slots.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <sstream>

#include "overlay/dataplane/host/published_ports.h"
#include "overlay/dataplane/host/ruleset.h"
#include "overlay/dataplane/kernel/nft.h"
#include "tests/overlay/dataplane/node_network_test.h"

namespace muster::overlay::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

class PublishedPortsTest : public NodeNetworkTest {
 protected:
  Status publish(const std::vector<std::string>& backends) {
    return net_->set_published_ports({published(80, 8080, backends)}, &conflicts_);
  }
  // A server of the host's, until end_server().
  void serve_host(const std::string& address, int port, const std::string& options = "") {
    box_.start("", fmt::format("exec socat -t20 {}:{}{},fork,reuseaddr SYSTEM:'echo host'", address,
                               port, options));
    box_.run("", fmt::format("for i in $(seq 300); do ss -Hltn sport = :{} | grep -q . && exit; "
                             "busybox usleep 10000; done",
                             port));
  }
  void end_server(int port) {
    box_.run("", fmt::format("kill $(ss -Hltnp sport = :{0} | grep socat | grep -o 'pid=[0-9]*' | "
                             "cut -d= -f2); for i in $(seq 300); do "
                             "ss -Hltnp sport = :{0} | grep -q socat || exit; "
                             "busybox usleep 10000; done",
                             port));
  }

  std::vector<v1::PortConfig> conflicts_;
};

TEST_F(PublishedPortsTest, WhoTookAPortWhileNobodyHeldItIsToldOfAsLongAsItHasIt) {
  const auto net = bridge_network("net-a", "10.50.0.0/24", "10.50.0.1");
  box_.serve(attach(request("c1", net, "10.50.0.2/24")), 8080, "one");
  ASSERT_TRUE(publish({"10.50.0.2"}).ok());
  net_.reset();
  serve_host("TCP4-LISTEN", 80);
  net_ = box_.make_network();
  ASSERT_NE(net_, nullptr);
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(publish({"10.50.0.2"}).message(), "port 80/tcp is in use on this node");
    ASSERT_THAT(conflicts_, SizeIs(1));
    EXPECT_EQ(conflicts_[0].published_port(), 80u);
    // Its connections never stopped to go to the container.
    EXPECT_EQ(box_.ask(box_.outside(), "192.0.2.1", 80), "one");
  }
  end_server(80);
  EXPECT_TRUE(publish({"10.50.0.2"}).ok());
  EXPECT_THAT(conflicts_, IsEmpty());
  EXPECT_THAT(box_.run("", "socat -u TCP4-LISTEN:80,reuseaddr - 2>&1"), HasSubstr("in use"));
}

TEST_F(PublishedPortsTest, APortIsHeldInTheFamiliesThatItLeadsIn) {
  box_.start("", "exec socat -t20 TCP6-LISTEN:80,ipv6only=1,fork,reuseaddr SYSTEM:'echo host'");
  box_.run("",
           "for i in $(seq 300); do ss -Hltn sport = :80 | grep -q . && exit; "
           "busybox usleep 10000; done");
  EXPECT_EQ(publish({"10.50.0.2", "fd50::2"}).code(), StatusCode::kAlreadyExists);
  EXPECT_THAT(conflicts_, SizeIs(1));
  EXPECT_TRUE(publish({"10.50.0.2"}).ok()) << "which is of IPv4 alone";
  end_server(80);
  EXPECT_TRUE(publish({"10.50.0.2", "fd50::2"}).ok());
  const std::string six = " socat -u TCP6-LISTEN:80,ipv6only=1,reuseaddr - 2>&1";
  const std::string four = " socat -u TCP4-LISTEN:80,reuseaddr - 2>&1";
  EXPECT_THAT(box_.run("", "timeout 20" + six), HasSubstr("in use"));
  EXPECT_THAT(box_.run("", "timeout 20" + four), HasSubstr("in use"));
  ASSERT_TRUE(publish({"fd50::2"}).ok());
  EXPECT_THAT(box_.run("", "timeout 20" + six), HasSubstr("in use"));
  EXPECT_THAT(box_.run("", "timeout 1" + four), Not(HasSubstr("in use")));
}

// Nothing is led from there: that the relay cannot have it is told by who has the relay.
TEST_F(PublishedPortsTest, WhoListensAtTheLoopbackOfIPv6AloneKeepsThatAndNoMore) {
  const auto net = bridge_network("net-a", "10.50.0.0/24", "10.50.0.1");
  box_.serve(attach(request("c1", net, "10.50.0.2/24")), 8080, "one");
  serve_host("TCP6-LISTEN", 80, ",bind=[::1],ipv6only=1");
  EXPECT_TRUE(publish({"10.50.0.2", "fd50::2"}).ok());
  EXPECT_THAT(conflicts_, IsEmpty());
  EXPECT_EQ(box_.ask(box_.outside(), "192.0.2.1", 80), "one");
  EXPECT_EQ(box_.ask("", "::1", 80), "host");
  end_server(80);
  EXPECT_TRUE(publish({"10.50.0.2", "fd50::2"}).ok());
  EXPECT_THAT(box_.run("", "timeout 20 socat -u TCP6-LISTEN:80,ipv6only=1,reuseaddr - 2>&1"),
              HasSubstr("in use"));
}

// Anything that keeps us from a port but a program that has it: here the kernel, which lets nobody
// listen at a group's address.
TEST_F(PublishedPortsTest, APortThatCannotBeHeldIsNotCalledTakenAndTriedAgain) {
  PublishedPort group = published(80, 8080, {"10.50.0.2", "fd50::2"});
  group.port.set_bind("ff05::5");
  EXPECT_TRUE(
      net_->set_published_ports({group, published(90, 8080, {"10.50.0.2"})}, &conflicts_).ok());
  EXPECT_THAT(conflicts_, IsEmpty());
  const std::string said =
      "published port [ff05::5]:80/tcp does not answer here: cannot reserve port 80/tcp: ";
  EXPECT_THAT(net_->limitations(), ElementsAre(HasSubstr(said)));
  EXPECT_THAT(box_.run("", "socat -u TCP4-LISTEN:90,reuseaddr - 2>&1"), HasSubstr("in use"));
  (void)net_->repair();
  EXPECT_THAT(net_->limitations(), ElementsAre(HasSubstr(said)));
  ASSERT_TRUE(publish({"10.50.0.2"}).ok());
  EXPECT_THAT(net_->limitations(), IsEmpty());
}

TEST_F(PublishedPortsTest, APortAtAnAddressOfAFamilyThatNoContainerHasIsTold) {
  PublishedPort six = published(80, 8080, {"10.50.0.2"});
  six.port.set_bind("2001:db8::1");
  ASSERT_TRUE(net_->set_published_ports({six}, &conflicts_).ok());
  EXPECT_THAT(net_->limitations(),
              ElementsAre("published port [2001:db8::1]:80/tcp answers nowhere: what it leads to "
                          "has no address of IPv6"));
  six.backends.push_back("fd50::2");
  ASSERT_TRUE(net_->set_published_ports({six}, &conflicts_).ok());
  EXPECT_THAT(net_->limitations(), IsEmpty());
}

TEST_F(PublishedPortsTest, APortIsPickedThatIsFreeInBothFamilies) {
  box_.run("", "echo 40000 40001 > /proc/sys/net/ipv4/ip_local_port_range");
  for (const int taken : {40000, 40001}) {
    serve_host("TCP6-LISTEN", taken, ",ipv6only=1");
    const auto picked = net_->reserve_host_port(v1::PortConfig::TCP);
    ASSERT_TRUE(picked) << picked.error().message();
    EXPECT_EQ(*picked, taken == 40000 ? 40001u : 40000u);
    for (const char* family : {"TCP4", "TCP6"}) {
      EXPECT_THAT(box_.run("", fmt::format("timeout 20 socat -u {}-LISTEN:{},reuseaddr - 2>&1",
                                           family, *picked)),
                  HasSubstr("in use"));
    }
    end_server(taken);
    net_.reset();
    net_ = box_.make_network();
    ASSERT_NE(net_, nullptr);
  }
}

TEST(PublishedPortsTurnTest, OfMoreTasksThanSlotsEachHasItsTurnAndItIsTold) {
  Sandbox box;
  ASSERT_TRUE(box.ok()) << box.error();
  auto nft = LibNft::make();
  ASSERT_TRUE(nft) << nft.error().message();
  ASSERT_TRUE((*nft)->run(base_ruleset("t", "mgo*", "mgi*")).ok());
  NftBalancer balancer(**nft, "t", 4);
  auto conntrack = FlowSweeper::open_socket();
  ASSERT_TRUE(conntrack) << conntrack.error().message();
  FlowSweeper sweeper(*std::move(conntrack), null_log());
  PublishedPorts ports(balancer, sweeper, null_log());
  std::vector<std::string> backends;
  for (int i = 1; i <= 9; ++i) backends.push_back(fmt::format("10.9.0.{}", i));
  ASSERT_TRUE(ports.set({published(80, 8080, backends)}, nullptr).ok());
  EXPECT_THAT(ports.limitations(),
              ElementsAre(HasSubstr("published port 80/tcp leads to 4 of 9 tasks at a time")));
  std::set<std::string> met;
  for (int turn = 0; turn < 9; ++turn) {
    std::istringstream words(
        box.run("", "nft list map inet t m4_tcp_80_0 | grep -o '10\\.9\\.0\\.[0-9]*'"));
    std::set<std::string> now;
    for (std::string word; words >> word;) now.insert(word);
    EXPECT_THAT(now, SizeIs(4)) << turn;
    met.merge(now);
    balancer.turn();
    ASSERT_TRUE(ports.set({published(80, 8080, backends)}, nullptr).ok()) << turn;
  }
  EXPECT_THAT(met, SizeIs(9));
  backends.resize(4);
  ASSERT_TRUE(ports.set({published(80, 8080, backends)}, nullptr).ok());
  EXPECT_THAT(ports.limitations(), IsEmpty());
}

}  // namespace
}  // namespace muster::overlay::testing
