// Encrypted networks on a kernel that has IPsec ESP, and what is on the wire meanwhile.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <chrono>
#include <cstring>
#include <map>

#include "overlay/dataplane/esp/esp_probe.h"
#include "tests/overlay/dataplane/segment_host.h"

namespace muster::overlay::testing {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr uint32_t kVni = 5001;

// Everything that passes the underlay's interface of a host, both ways.
class Capture {
 public:
  struct Seen {
    size_t esp = 0;
    size_t udp = 0;    // ESP in UDP
    size_t plain = 0;  // VXLAN of the encrypted network
    size_t other = 0;  // VXLAN of others
  };

  explicit Capture(Host& host) {
    host.here([&]() -> Status {
      fd_ = UniqueFd(socket(AF_PACKET, SOCK_DGRAM | SOCK_NONBLOCK, htons(ETH_P_ALL)));
      const int room = 16 << 20;
      (void)setsockopt(fd_.get(), SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room));
      sockaddr_ll where{};
      where.sll_family = AF_PACKET;
      where.sll_protocol = htons(ETH_P_ALL);
      where.sll_ifindex = static_cast<int>(if_nametoindex("u0"));
      const int bound = bind(fd_.get(), reinterpret_cast<sockaddr*>(&where), sizeof(where));
      return bound == 0 ? ok_status() : errno_status(errno, "capture");
    });
  }
  // Since the last call.
  Seen take() {
    Seen out;
    std::array<unsigned char, 65536> buffer;
    for (ssize_t n = 0; (n = recv(fd_.get(), buffer.data(), buffer.size(), 0)) > 0;) {
      count(buffer.data(), static_cast<size_t>(n), out);
    }
    struct tpacket_stats lost {};
    socklen_t size = sizeof(lost);
    EXPECT_EQ(getsockopt(fd_.get(), SOL_PACKET, PACKET_STATISTICS, &lost, &size), 0);
    EXPECT_EQ(lost.tp_drops, 0u);
    return out;
  }

 private:
  static void count(const unsigned char* ip, size_t size, Seen& out) {
    const bool v6 = ip[0] >> 4 == 6;
    const size_t header = v6 ? 40 : static_cast<size_t>(ip[0] & 15) * 4;
    const int protocol = v6 ? ip[6] : ip[9];
    if (protocol == IPPROTO_ESP) ++out.esp;
    if (protocol != IPPROTO_UDP || size < header + 16) return;
    const unsigned char* udp = ip + header;
    const int port = udp[2] << 8 | udp[3];
    if (port == 4500) ++out.udp;
    if (port != 4789) return;
    const uint32_t vni = static_cast<uint32_t>(udp[12] << 16 | udp[13] << 8 | udp[14]);
    ++(vni == kVni ? out.plain : out.other);
  }

  UniqueFd fd_;
};

// What somebody on the wire records of ESP over IPv4, and sends again from another host.
class Recorder {
 public:
  static constexpr size_t kEsp = 20;  // behind an IPv4 header without options

  // What comes to, and leaves from, the underlay's interface of a host.
  explicit Recorder(Host& host) {
    host.here([&]() -> Status {
      fd_ = UniqueFd(socket(AF_PACKET, SOCK_DGRAM | SOCK_NONBLOCK, htons(ETH_P_ALL)));
      sockaddr_ll where{};
      where.sll_family = AF_PACKET;
      where.sll_protocol = htons(ETH_P_ALL);
      where.sll_ifindex = static_cast<int>(if_nametoindex("u0"));
      const int bound = bind(fd_.get(), reinterpret_cast<sockaddr*>(&where), sizeof(where));
      return bound == 0 ? ok_status() : errno_status(errno, "record");
    });
  }
  // Since the last call, with their IP header.
  std::vector<std::string> take() {
    std::vector<std::string> out;
    std::array<char, 65536> buffer;
    for (ssize_t n = 0; (n = recv(fd_.get(), buffer.data(), buffer.size(), 0)) > 0;) {
      std::string packet(buffer.data(), static_cast<size_t>(n));
      if (packet.size() > kEsp + 8 && packet[0] == 0x45 && packet[9] == IPPROTO_ESP) {
        out.push_back(std::move(packet));
      }
    }
    return out;
  }
  static uint32_t word(const std::string& packet, size_t at) {
    uint32_t out = 0;
    std::memcpy(&out, packet.data() + at, sizeof(out));
    return ntohl(out);
  }
  // As they are, whoever they name as their sender.
  static Status send(const std::vector<std::string>& packets) {
    const UniqueFd fd(socket(AF_INET, SOCK_RAW, IPPROTO_RAW));
    for (const std::string& packet : packets) {
      sockaddr_in to{};
      to.sin_family = AF_INET;
      std::memcpy(&to.sin_addr, packet.data() + 16, 4);
      if (sendto(fd.get(), packet.data(), packet.size(), 0, reinterpret_cast<sockaddr*>(&to),
                 sizeof(to)) < 0) {
        return errno_status(errno, "send again");
      }
    }
    return ok_status();
  }

 private:
  UniqueFd fd_;
};

EncryptionKey key(uint64_t number, bool used) {
  return {number, std::string(32, static_cast<char>('a' + number)), used};
}

class EspTest : public SegmentsTest {
 protected:
  void SetUp() override {
    ASSERT_EQ(encryption_trouble(false), "") << "this test needs a kernel with IPsec ESP";
    SegmentsTest::SetUp();
    net_ = overlay_network("web", kVni);
    net_.mutable_spec()->add_driver_options()->set_key("encrypted");
    net_.mutable_state()->set_mtu(1408);  // as managers work it out for 1500
    for (auto& h : hosts_) h->encrypt();
  }
  void keys(const std::vector<EncryptionKey>& ring, uint32_t udp_port = 0) {
    for (auto& h : hosts_) h->set_keys({ring, udp_port});
  }
  // Encrypted, between nodes 1 and 2.
  void begin(uint32_t udp_port = 0) {
    two_containers();
    keys({key(1, true)}, udp_port);
  }
  bool both_ways() { return pings(c1_, "10.1.0.12") && pings(c2_, "10.1.0.11"); }
  std::string states(int number) {
    return box_.run(host(number).path, "ip xfrm state | grep -c spi");
  }
};

TEST_F(EspTest, OnlyEspIsOnTheWire) {
  Capture wire(host(1));
  two_containers();
  // Before there is a key, nothing.
  EXPECT_FALSE(pings(c1_, "10.1.0.12"));
  Capture::Seen seen = wire.take();
  EXPECT_EQ(seen.plain + seen.esp + seen.udp, 0u);
  keys({key(1, true)});
  EXPECT_TRUE(both_ways());
  EXPECT_TRUE(pings(c1_, "fd10::12"));
  seen = wire.take();
  EXPECT_EQ(seen.plain, 0u);
  EXPECT_GE(seen.esp, 6u);
  EXPECT_EQ(seen.udp, 0u);
  for (auto& h : hosts_) EXPECT_THAT(h->repair(), IsEmpty());
  EXPECT_TRUE(both_ways());
  // Another network on the same nodes goes as it did.
  const v1::Network open = overlay_network("open", 4097);
  const std::string c3 = host(1).attach(open, 13);
  host(2).attach(open, 14);
  for (int i : {1, 2}) {
    EXPECT_TRUE(host(i).step(open, {endpoint("t3", 13, 1), endpoint("t4", 14, 2)}, {}, true).ok());
  }
  wire.take();
  EXPECT_TRUE(pings(c3, "10.1.0.14"));
  seen = wire.take();
  EXPECT_GE(seen.other, 2u);
  EXPECT_EQ(seen.plain, 0u);
}

TEST_F(EspTest, KeysChangeNodeByNodeWithoutALoss) {
  begin();
  Capture wire(host(1));
  const auto all = [&](const std::vector<EncryptionKey>& ring) {
    for (int i : {2, 1}) {
      host(i).set_keys({ring, 0});
      EXPECT_TRUE(both_ways()) << i;
    }
  };
  EXPECT_TRUE(both_ways());
  for (uint64_t n = 1; n < 6; ++n) {
    std::vector<EncryptionKey> ring;
    for (uint64_t k = n > 1 ? n - 1 : n; k <= n; ++k) ring.push_back(key(k, true));
    ring.push_back(key(n + 1, false));
    all(ring);
    ring.back().used = true;
    all(ring);
  }
  const Capture::Seen seen = wire.take();
  EXPECT_EQ(seen.plain, 0u);
  EXPECT_GE(seen.esp, 80u);
  EXPECT_EQ(states(1), std::to_string(3 * kEspLanes + 1));
  EXPECT_THAT(host(1).repair(), IsEmpty());
}

// A stream goes on while keys change under it.
TEST_F(EspTest, AStreamSurvivesTheChangeOfKeys) {
  begin();
  Capture wire(host(1));
  const std::string got = box_.dir() + "/got";
  box_.start(c2_, "tail -f /dev/null | timeout 100 busybox nc -l -p 7000 > " + got);
  box_.run(c2_,
           "for i in $(seq 100); do ss -Hltn sport = :7000 | grep -q . && exit; busybox usleep "
           "20000; done");
  box_.start(c1_,
             "(for i in $(seq 100); do echo $i; busybox usleep 10000; done; tail -f "
             "/dev/null) | timeout 100 busybox nc 10.1.0.12 7000");
  for (uint64_t n = 1; n < 4; ++n) {
    keys({key(n, true), key(n + 1, false)});
    keys({key(n, true), key(n + 1, true)});
  }
  box_.run(c2_, "for i in $(seq 200); do grep -qx 100 " + got +
                    " && exit; busybox usleep 50000; "
                    "done");
  EXPECT_EQ(box_.run(c2_, "wc -l < " + got), "100");
  EXPECT_EQ(wire.take().plain, 0u);
}

TEST_F(EspTest, WhateverIsTakenAwayNothingLeavesInPlainText) {
  begin();
  Capture wire(host(1));
  const std::string segment = host(1).segment("web");
  const std::pair<std::string, std::string> losses[] = {
      {host(1).path, "ip xfrm state flush"},
      {host(1).path, "ip xfrm policy flush"},
      {host(1).path, "ip xfrm state flush; ip xfrm policy flush"},
      {host(1).path, "nft flush ruleset"},
      {host(1).path, "nft flush ruleset; ip xfrm state flush"},
      {segment, "nft flush ruleset"},
  };
  for (const auto& [where, loss] : losses) {
    EXPECT_TRUE(both_ways()) << loss;
    box_.run(where, loss);
    const bool alone = loss == "nft flush ruleset" && where == host(1).path;
    // Without the guard it goes on encrypted; without anything else it does not go on.
    EXPECT_EQ(pings(c1_, "10.1.0.12"), alone) << loss;
    EXPECT_EQ(wire.take().plain, 0u) << loss;
    EXPECT_THAT(host(1).repair(), Contains(HasSubstr("encrypted"))) << loss;
    EXPECT_THAT(host(1).repair(), IsEmpty()) << loss;
  }
  EXPECT_TRUE(both_ways());
  EXPECT_EQ(wire.take().plain, 0u);
}

TEST_F(EspTest, PlainTextThatSomebodySendsIsNotTakenIn) {
  begin();
  // Node 3 pretends to be node 1's peer, without the key. Its own guard would keep that back.
  box_.run(host(3).path, "nft flush ruleset");
  box_.run(host(3).path,
           "ip link add forged type vxlan id 5001 dstport 4789 local 192.168.50.3 remote "
           "192.168.50.1 nolearning && ip link set forged address 02:42:0a:01:00:0c up && "
           "ip addr add 10.1.0.12/16 dev forged && "
           "ip neigh replace 10.1.0.11 lladdr 02:42:0a:01:00:0b dev forged nud permanent");
  const std::string before = box_.run(c1_, "awk '/^Icmp: [0-9]/ {print $2}' /proc/net/snmp");
  box_.run(host(3).path, "busybox ping -c2 -W1 10.1.0.11");
  EXPECT_EQ(box_.run(c1_, "awk '/^Icmp: [0-9]/ {print $2}' /proc/net/snmp"), before);
  EXPECT_THAT(box_.run(host(1).path, "nft list ruleset | grep 'meta ipsec missing'"),
              AllOf(HasSubstr("packets"), Not(HasSubstr("packets 0 "))));
}

TEST_F(EspTest, ARestartWithoutKeysChangesNothing) {
  begin();
  // Without what is counted.
  const auto listed = [&] {
    return box_.run(host(1).path,
                    "(ip xfrm state; ip xfrm policy) | grep -E 'src|proto|aead|encap|mark|dir'");
  };
  const std::string before = listed();
  EXPECT_THAT(before, HasSubstr("aead"));
  host(1).restart();
  EXPECT_THAT(host(1).repair(), IsEmpty());
  host(1).set_node("192.168.50.1");
  EXPECT_THAT(host(1).repair(), IsEmpty());
  EXPECT_TRUE(both_ways());
  ASSERT_TRUE(host(1).step(net_, {endpoint("t1", 11, 1), endpoint("t2", 12, 2)}, {}, true).ok());
  EXPECT_TRUE(both_ways());
  EXPECT_EQ(listed(), before);
  keys({key(1, true)});
  EXPECT_TRUE(both_ways());
  EXPECT_THAT(host(1).repair(), IsEmpty());
  keys({key(1, true), key(2, true)});
  EXPECT_TRUE(both_ways());
}

// As a host that was started anew, whose first lane is the one it had.
TEST_F(EspTest, ASenderThatForgotWhatItHasCountedGoesOnAboveIt) {
  WallTime now{1'800'000'000'000'000'000};
  host(1).esp_options.now = [&] { return now; };
  host(1).encrypt();
  begin();
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(both_ways());
  EXPECT_THAT(host(2).repair(), IsEmpty());
  box_.run(host(1).path, "ip xfrm state flush; ip xfrm policy flush");
  host(1).restart();
  host(1).set_node("192.168.50.1");
  ASSERT_TRUE(host(1).step(net_, {endpoint("t1", 11, 1), endpoint("t2", 12, 2)}, {}, true).ok());
  now = now + std::chrono::seconds(1);
  keys({key(1, true)});
  EXPECT_TRUE(both_ways());
  EXPECT_THAT(host(2).repair(), IsEmpty());
  // While it runs, a state that is lost is made in another lane.
  box_.run(host(1).path, "ip xfrm state flush");
  EXPECT_THAT(host(1).repair(), Contains(HasSubstr("missing")));
  EXPECT_TRUE(both_ways());
}

// Without the key anybody can make packets fail, by which nothing that was accepted may become
// acceptable again.
TEST_F(EspTest, WhatWasRecordedIsNotTakenInAgainHoweverMuchFails) {
  EspCounts counts;
  host(1).esp_options.count = [&](const EspCounts& c) {
    counts.replays += c.replays;
    counts.forged += c.forged;
  };
  host(1).encrypt();
  begin();
  Recorder wire(host(1));
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(both_ways());
  std::vector<std::string> recorded = wire.take();
  std::erase_if(recorded, [](const std::string& packet) {
    return Recorder::word(packet, 16) != 0xc0a83201;  // to 192.168.50.1
  });
  ASSERT_GE(recorded.size(), 6u);
  std::vector<std::string> forged = recorded;
  for (std::string& packet : forged) packet[Recorder::kEsp + 5] ^= 0x40;  // a number yet to come
  const auto sent_again = [&](const std::vector<std::string>& packets) {
    host(3).here([&] { return Recorder::send(packets); });
    // What comes behind them is answered when they are through.
    EXPECT_TRUE(pings(host(3).path, "192.168.50.1"));
  };
  const auto taken = [&] {
    return box_.run(c1_, "awk '/^Icmp: [0-9]/ {print $2}' /proc/net/snmp");
  };
  const std::string before = taken();
  // Nothing else comes from node 2 meanwhile.
  EXPECT_THAT(host(1).repair(), IsEmpty());
  for (const auto& failing : {recorded, forged}) {
    sent_again(failing);
    EXPECT_THAT(host(1).repair(), IsEmpty());
    sent_again(recorded);
    EXPECT_EQ(taken(), before);
    EXPECT_THAT(host(1).repair(), IsEmpty());
  }
  EXPECT_GE(counts.replays, 3 * recorded.size());
  EXPECT_GE(counts.forged, forged.size());
  // Nor when its states were made anew.
  keys({key(1, true)}, 4500);
  keys({key(1, true)});
  sent_again(recorded);
  EXPECT_EQ(taken(), before);
  EXPECT_TRUE(both_ways());
  EXPECT_THAT(host(1).repair(), IsEmpty());
}

// One that is used twice with a key gives away what both packets said, and is taken for a replay.
TEST_F(EspTest, NoNumberIsUsedTwiceWhenItTravelsInAnotherWay) {
  begin();
  Recorder wire(host(1));
  std::map<uint32_t, uint32_t> last;  // by SPI
  for (int round = 0; round < 3; ++round) {
    for (const uint32_t port : {4500u, 4501u}) {
      EXPECT_TRUE(both_ways()) << round;
      const auto seen = wire.take();
      EXPECT_GE(seen.size(), 4u);
      for (const std::string& packet : seen) {
        uint32_t& before = last[Recorder::word(packet, Recorder::kEsp)];
        const uint32_t number = Recorder::word(packet, Recorder::kEsp + 4);
        EXPECT_GT(number, before) << round;
        before = number;
      }
      keys({key(1, true)}, port);
      EXPECT_TRUE(both_ways()) << round << ' ' << port;
      keys({key(1, true)});
    }
  }
  EXPECT_EQ(last.size(), 2u) << "no lane was used up";
  for (auto& h : hosts_) EXPECT_THAT(h->repair(), IsEmpty());
}

TEST_F(EspTest, WhereProtocol50IsFilteredItTravelsInUdp) {
  begin(4500);
  Capture wire(host(1));
  EXPECT_TRUE(both_ways());
  Capture::Seen seen = wire.take();
  EXPECT_EQ(seen.esp + seen.plain, 0u);
  EXPECT_GE(seen.udp, 4u);
  // A packet of the network's whole MTU goes in one piece.
  EXPECT_THAT(box_.run(host(1).segment("web"), "ip -o link show vx0"), HasSubstr("mtu 1408"));
  EXPECT_EQ(box_.run(c1_, "busybox ping -s 1380 -c1 -W2 10.1.0.12 >/dev/null && echo yes"), "yes");
  EXPECT_EQ(fragments(host(1).path), "0");
  // Also for a musterd that was started anew and has not been told anything yet.
  host(1).restart();
  host(1).set_node("192.168.50.1");
  EXPECT_TRUE(both_ways());
  ASSERT_TRUE(host(1).step(net_, {endpoint("t1", 11, 1), endpoint("t2", 12, 2)}, {}, true).ok());
  // And by itself again.
  keys({key(1, true)});
  EXPECT_TRUE(both_ways());
  seen = wire.take();
  EXPECT_GE(seen.esp, 4u);
  EXPECT_EQ(seen.plain, 0u);
  EXPECT_EQ(box_.run(host(1).path, "ss -Hlun sport = :4500 | wc -l"), "0");
}

// As netd does: musterd comes and goes, the port stays, and nothing is lost.
TEST_F(EspTest, WhoOutlivesMusterdHoldsThePortThroughItsRestart) {
  UniqueFd held;
  std::vector<uint16_t> asked;
  host(1).esp_options.hold = [&](uint16_t port) -> Status {
    asked.push_back(port);
    if (port == 0) held.reset();
    if (port == 0 || held) return ok_status();
    MUSTER_ASSIGN(held, open_encapsulation(false, port));
    return ok_status();
  };
  host(1).encrypt();
  begin(4500);
  EXPECT_TRUE(both_ways());
  EXPECT_TRUE(held);
  asked.clear();
  host(1).restart();
  EXPECT_TRUE(both_ways());
  host(1).set_node("192.168.50.1");
  EXPECT_TRUE(both_ways());
  ASSERT_TRUE(host(1).step(net_, {endpoint("t1", 11, 1), endpoint("t2", 12, 2)}, {}, true).ok());
  keys({key(1, true)}, 4500);
  EXPECT_TRUE(both_ways());
  EXPECT_THAT(asked, AllOf(Contains(4500), Not(Contains(0))));
  keys({key(1, true)});
  EXPECT_TRUE(both_ways());
  EXPECT_FALSE(held);
}

TEST_F(EspTest, APortThatIsTakenIsNamed) {
  two_containers();
  UniqueFd taken;
  host(1).here([&]() -> Status {
    MUSTER_ASSIGN(taken, open_encapsulation(false, 4500));
    return ok_status();
  });
  const auto told = [&] {
    Status set;
    host(1).here([&] {
      set = host(1).esp->set_encryption({{key(1, true)}, 4500});
      return ok_status();
    });
    return set.message();
  };
  // As often as it is asked: nothing in UDP arrives.
  for (int round = 0; round < 2; ++round) {
    EXPECT_THAT(told(), HasSubstr("UDP port 4500"));
    EXPECT_THAT(told(), HasSubstr("in use by another program"));
    EXPECT_THAT(host(1).repair(), IsEmpty()) << "what could not be mended is no repair";
    EXPECT_THAT(host(1).esp->limitation(), HasSubstr("UDP port 4500"));
  }
  taken.reset();
  EXPECT_THAT(host(1).repair(), IsEmpty());
  EXPECT_EQ(told(), "");
  EXPECT_EQ(host(1).esp->limitation(), "");
}

TEST_F(EspTest, AnUnderlayOfIpv6IsEncryptedToo) {
  ASSERT_EQ(encryption_trouble(true), "");
  for (int i = 1; i <= 3; ++i) host(i).set_node(fmt::format("fd50::{}", i));
  c1_ = host(1).attach(net_, 11);
  c2_ = host(2).attach(net_, 12);
  auto one = endpoint("t1", 11, 1);
  auto two = endpoint("t2", 12, 2);
  one.set_data_path_addr("fd50::1");
  two.set_data_path_addr("fd50::2");
  step({one, two}, {}, true);
  keys({key(1, true)});
  Capture wire(host(1));
  EXPECT_TRUE(both_ways());
  const Capture::Seen seen = wire.take();
  EXPECT_GE(seen.esp, 4u);
  EXPECT_EQ(seen.plain, 0u);
}

TEST_F(EspTest, WhoGoesLeavesNothingBehind) {
  begin();
  EXPECT_TRUE(both_ways());
  // The other node's task ends: its states go with the next look.
  step({}, {"t2"});
  EXPECT_THAT(host(1).repair(), IsEmpty());
  EXPECT_EQ(states(1), "0");
  step({endpoint("t2", 12, 2)});
  EXPECT_TRUE(pings(c1_, "10.1.0.12"));
  host(1).truths.forget("web");
  ASSERT_TRUE(host(1).segments->forget("web").ok());
  host(1).set_node("192.168.50.1");
  host(1).detach(11);
  EXPECT_THAT(host(1).repair(), IsEmpty());
  const std::string all = "ip xfrm state; ip xfrm policy; nft list tables";
  EXPECT_EQ(box_.run(host(1).path, all), "");
  host(2).here([&] { return host(2).esp->remove(); });
  EXPECT_EQ(box_.run(host(2).path, all), "");
}

}  // namespace
}  // namespace muster::overlay::testing
