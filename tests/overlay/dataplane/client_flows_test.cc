// Which flows to virtual addresses go on, and which are led anew, as tasks come and go.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <map>
#include <set>

#include "overlay/dataplane/vip/client_flows.h"
#include "tests/overlay/dataplane/client_fixture.h"

namespace muster::overlay::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

TEST_F(NftClientTest, AHeldFlowStaysWhileTheServiceGrowsAndMoves) {
  serve(40);
  NetworkDifference more;
  for (int i = 16; i < 40; ++i) more.task_ids.merge(lab_.no_task(fmt::format("t{}", i)).task_ids);
  lab_.service("web", {kVip});
  lab_.apply({});
  const std::string ns = client("c1", {"10.60.0.2"});
  inside(ns, [&] {
    const UniqueFd held = connect_tcp(kVip, kPort);
    ASSERT_TRUE(held);
    const std::string backend = ask_on(held.get()).text;
    NetworkDifference difference;
    for (size_t i = 16; i < 17; ++i)
      difference.task_ids.merge(lab_.task(fmt::format("t{}", i), "web", {v4(i)}).task_ids);
    lab_.apply(difference);
    EXPECT_EQ(ask_on(held.get()).text, backend);
    // Its own task drains, is released, and then its node is down.
    for (const auto& [id, endpoint] : std::map(lab_.truth.endpoints)) {
      if (endpoint.addresses(0) != backend) continue;
      for (const auto state : {v1::ENDPOINT_DRAINING, v1::ENDPOINT_RELEASED, v1::ENDPOINT_ABSENT}) {
        lab_.apply(lab_.task(id, "web", {backend}, state));
        lab_.settle();
        EXPECT_EQ(ask_on(held.get()).text, backend) << state;
      }
      lab_.apply(lab_.no_task(id));
      lab_.settle();
    }
    // Who waits for an answer of a task that is gone hears of it.
    EXPECT_EQ(ask_on(held.get()).text, "");
    for (int i = 0; i < 200; ++i) {
      const UniqueFd fresh = connect_tcp(kVip, kPort);
      ASSERT_TRUE(fresh);
      EXPECT_NE(ask_on(fresh.get()).text, backend);
    }
  });
  EXPECT_THAT(lab_.nft(ns), HasSubstr("numgen inc mod 128"));
  EXPECT_THAT(lab_.nft(ns), Not(HasSubstr("numgen inc mod 64")));
}

// A client may take a port again that it had: whatever is left of the connection before, the next
// one is new, and no segment has to be sent twice for it.
TEST_F(ClientTest, APortThatIsTakenAgainMeetsNobodyWhoIsGone) {
  serve(2);
  lab_.service("web", {kVip});
  lab_.apply({});
  const std::string ns = client("c1", {"10.60.0.2"});
  constexpr int kFrom = 40'000;
  const auto sent_twice = [&] {
    return lab_.box.run(ns, "awk '/^Tcp:/ && n++ { print $13 }' /proc/net/snmp");
  };
  inside(ns, [&] {
    std::set<std::string> met;
    for (int i = 0; i < 20; ++i) {
      const UniqueFd fd = connect_tcp(kVip, kPort, nullptr, kFrom);
      ASSERT_TRUE(fd) << i;
      met.insert(ask_on(fd.get()).text);
      // Reset, for the port to be free at once.
      const linger at_once{1, 0};
      setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    }
    // IPVS takes a segment from the same port for the connection before, as long as it remembers
    // that one, and goes on with its backend; either way somebody answers.
    if (!lab_.choice.ipvs) {
      EXPECT_THAT(met, SizeIs(2));
    }
    EXPECT_EQ(sent_twice(), "0");
    std::string backend;
    {
      // Its machine is switched off: the other end never hears of it.
      const UniqueFd fd = connect_tcp(kVip, kPort, nullptr, kFrom);
      ASSERT_TRUE(fd);
      backend = ask_on(fd.get()).text;
      const int on = 1;
      ASSERT_EQ(setsockopt(fd.get(), IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on)), 0);
    }
    const std::string id = backend == v4(0) ? "t0" : "t1";
    lab_.apply(lab_.task(id, "web", {backend}, v1::ENDPOINT_ABSENT));
    lab_.settle();
    lab_.apply(lab_.no_task(id));
    lab_.settle();
    const UniqueFd fd = connect_tcp(kVip, kPort, nullptr, kFrom);
    ASSERT_TRUE(fd);
    EXPECT_EQ(ask_on(fd.get()).text, backend == v4(0) ? v4(1) : v4(0));
    EXPECT_EQ(sent_twice(), "0");
  });
}

// The task sees the client's own address and port, of which it may have another connection.
TEST_F(ClientTest, APortThatTheTaskKnowsFromAConnectionToItselfIsNoHindrance) {
  serve(1, true);
  lab_.service("web", {kVip, kVip6});
  lab_.apply({});
  const std::string ns = client("c1", {"10.60.0.2", "fd60::2"});
  inside(ns, [&] {
    int from = 41'000;
    for (const auto& [vip, task] :
         {std::pair(std::string(kVip), v4(0)), std::pair(std::string(kVip6), v6(0))}) {
      // What is over is remembered for a while: after a reset, and in TIME_WAIT. With IPVS what
      // arrives by a later one goes to the socket in TIME_WAIT, and to one that is open.
      for (const bool reset : {true, false}) {
        if (lab_.choice.ipvs && !reset) continue;
        {
          const UniqueFd direct = connect_tcp(task, kPort, nullptr, ++from);
          ASSERT_TRUE(direct);
          EXPECT_EQ(ask_on(direct.get()).text, task);
          const linger at_once{1, 0};
          if (reset) setsockopt(direct.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
          char byte = 0;
          if (!reset) {
            shutdown(direct.get(), SHUT_WR);
            EXPECT_EQ(recv(direct.get(), &byte, 1, 0), 0);
          }
        }
        EXPECT_EQ(ask_on(connect_tcp(vip, kPort, nullptr, from).get()).text, task) << vip << reset;
      }
      if (lab_.choice.ipvs) continue;
      const UniqueFd direct = connect_tcp(task, kPort, nullptr, ++from);
      ASSERT_TRUE(direct);
      const UniqueFd led = connect_tcp(vip, kPort, nullptr, from);
      ASSERT_TRUE(led) << vip;
      EXPECT_EQ(ask_on(led.get()).text, task);
      EXPECT_EQ(ask_on(direct.get()).text, task);
    }
  });
}

TEST_F(ClientTest, DatagramsMoveOnceTheTaskIsReleased) {
  serve(2, true);
  lab_.service("web", {kVip, kVip6});
  lab_.apply({});
  const std::string ns = client("c1", {"10.60.0.2", "fd60::2"});
  for (const std::string vip : {kVip, kVip6}) {
    inside(ns, [&] {
      const UniqueFd fd = open_udp(vip, kPort);
      const std::string backend = ask_udp(fd.get()).text;
      ASSERT_NE(backend, "");
      const size_t i = backend == v4(0) || backend == v6(0) ? 0 : 1;
      const std::string id = fmt::format("t{}", i);
      lab_.apply(lab_.task(id, "web", {v4(i), v6(i)}, v1::ENDPOINT_DRAINING));
      EXPECT_EQ(ask_udp(fd.get()).text, backend);
      lab_.apply(lab_.task(id, "web", {v4(i), v6(i)}, v1::ENDPOINT_RELEASED));
      lab_.settle();
      // With nftables in a moment: an answer may be under way, as the one that is lost by it here.
      const std::string other = vip == kVip ? v4(1 - i) : v6(1 - i);
      std::string who = ask_udp(fd.get()).text;
      const auto began = std::chrono::steady_clock::now();
      while (who != other && std::chrono::steady_clock::now() - began < std::chrono::seconds(20)) {
        ASSERT_FALSE(lab_.choice.ipvs) << who;
        who = ask_udp(fd.get()).text;
      }
      EXPECT_EQ(who, other);
      lab_.apply(lab_.task(id, "web", {v4(i), v6(i)}));
    });
  }
}

// With nftables they are left to their task for a moment, since its answer may be under way.
TEST_F(ClientTest, DatagramsThatNobodyAnswersMoveToo) {
  serve(2);
  lab_.service("web", {kVip});
  lab_.apply({});
  const std::string ns = client("c1", {"10.60.0.2"});
  inside(ns, [&] {
    const UniqueFd fd = open_udp(kVip, kPort);
    lab_.box.run(servers_,
                 "nft 'add table ip mute; add chain ip mute in { type filter hook input "
                 "priority 0; policy drop; }'");
    for (int i = 0; i < 2; ++i) ASSERT_EQ(send(fd.get(), "x", 1, 0), 1);
    const std::string flow = lab_.box.run(ns, "conntrack -L -p udp -d 10.60.255.1 2>/dev/null");
    const bool first = flow.find("src=" + v4(0) + " ") != std::string::npos;
    ASSERT_TRUE(first || flow.find("src=" + v4(1) + " ") != std::string::npos) << flow;
    lab_.apply(lab_.task(first ? "t0" : "t1", "web", {v4(first ? 0 : 1)}, v1::ENDPOINT_RELEASED));
    lab_.settle();
    EXPECT_EQ(send(fd.get(), "x", 1, 0), 1) << strerror(errno);
    if (lab_.choice.ipvs) {
      EXPECT_THAT(lab_.box.run(ns, "conntrack -L -p udp -d 10.60.255.1 2>/dev/null"),
                  ::testing::HasSubstr("src=" + v4(first ? 1 : 0) + " "));
    }
  });
}

TEST_F(ClientTest, DatagramsToWhoLeftWhileNobodyLookedMove) {
  serve(2);
  lab_.service("web", {kVip});
  lab_.apply({});
  const std::string ns = client("c1", {"10.60.0.2"});
  inside(ns, [&] {
    const UniqueFd fd = open_udp(kVip, kPort);
    const std::string backend = ask_udp(fd.get()).text;
    lab_.restart();
    ASSERT_TRUE(lab_.clients->adopt("c1", ns).ok());
    lab_.no_task(backend == v4(0) ? "t0" : "t1");
    lab_.apply({});
    lab_.settle();
    EXPECT_EQ(ask_udp(fd.get()).text, backend == v4(0) ? v4(1) : v4(0));
  });
}

TEST(VipFlows, WhatMayGoOn) {
  const Ip ready = Ip::v4(1), released = Ip::v4(2), lost = Ip::v4(3), gone = Ip::v4(4);
  VipFlows flows{{ready}, {ready, released}, {ready, released, lost}, true};
  struct Case {
    uint8_t protocol;
    bool established;
    Ip backend;
    bool stale;
  };
  for (const Case& c : {Case{IPPROTO_UDP, false, ready, false},
                        {IPPROTO_UDP, false, released, true},
                        {IPPROTO_UDP, false, gone, true},
                        {IPPROTO_TCP, true, ready, false},
                        {IPPROTO_TCP, false, released, false},
                        {IPPROTO_TCP, true, lost, false},
                        {IPPROTO_TCP, false, lost, true},
                        {IPPROTO_TCP, true, gone, true},
                        {IPPROTO_TCP, false, gone, true},
                        {IPPROTO_SCTP, false, released, false},
                        {IPPROTO_SCTP, false, gone, true}}) {
    EXPECT_EQ(flow_is_stale(flows, c.protocol, c.established, c.backend), c.stale)
        << int{c.protocol} << " " << c.established << " " << c.backend.str();
  }
  // A service that was removed: its tasks end what they have.
  EXPECT_FALSE(flow_is_stale({}, IPPROTO_TCP, true, ready));
  EXPECT_TRUE(flow_is_stale({}, IPPROTO_TCP, false, ready));
}

}  // namespace
}  // namespace muster::overlay::testing
