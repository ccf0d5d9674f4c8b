#include "overlay/dataplane/kernel/conntrack.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_sctp.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <malloc.h>
#include <netinet/in.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "overlay/dataplane/kernel/netlink.h"
#include "overlay/dataplane/vip/client_flows.h"
#include "tests/overlay/dataplane/led_connection.h"
#include "tests/overlay/dataplane/sandbox.h"

namespace muster::overlay::testing {
namespace {

const Ip kServer = Ip::v4(0x0a000002);  // 10.0.0.2
const Ip kOther = Ip::v4(0x0a000003);

Message connection(const Ip& client, uint16_t port) {
  nfgenmsg header{};
  header.nfgen_family = AF_INET;
  header.version = NFNETLINK_V0;
  Message m((NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_NEW, NLM_F_CREATE | NLM_F_EXCL,
            "make a connection", 512);
  m.header(header);
  put_tuple(m, CTA_TUPLE_ORIG, client, port, kServer, 53, IPPROTO_UDP);
  put_tuple(m, CTA_TUPLE_REPLY, kServer, 53, client, port, IPPROTO_UDP);
  m.put_u32(CTA_TIMEOUT, htonl(600));
  return m;
}

// Of this process, in KiB.
size_t most_memory() {
  std::ifstream in("/proc/self/status");
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("VmHWM:")) return std::stoul(line.substr(6));
  }
  return 0;
}

// A connection table of the test's own.
class ConnectionTable : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(box_.ok()) << box_.error();
    auto opened = NetlinkSocket::open(NETLINK_NETFILTER);
    ASSERT_TRUE(opened) << opened.error().message();
    socket_.emplace(*std::move(opened));
  }
  void run(const std::vector<Message>& requests) {
    const Status ran = socket_->run(requests);
    ASSERT_TRUE(ran.ok()) << ran.message();
  }
  void run(Message request) {
    std::vector<Message> requests;
    requests.push_back(std::move(request));
    run(requests);
  }
  SweptFlows sweep(const std::vector<FlowFilter>& flows, const std::set<uint32_t>& awaited = {}) {
    auto swept = delete_flows(*socket_, flows, awaited);
    EXPECT_TRUE(swept) << swept.error().message();
    return swept ? *std::move(swept) : SweptFlows();
  }
  std::string count() { return box_.run("", "cat /proc/sys/net/netfilter/nf_conntrack_count"); }

  Sandbox box_;
  std::optional<NetlinkSocket> socket_;
};
using DeleteFlows = ConnectionTable;

TEST_F(DeleteFlows, AFullTableOfConnectionsTakesNoMemory) {
  constexpr uint16_t kClients = 30'000;
  {
    std::vector<Message> make;
    for (uint16_t i = 0; i < kClients; ++i)
      make.push_back(connection(Ip::v4(0x0a010001 + i), 1024));
    run(make);
  }
  ASSERT_EQ(count(), std::to_string(kClients));
  // What is free already would hide what is taken.
  malloc_trim(0);
  std::ofstream("/proc/self/clear_refs") << "5";
  const size_t before = most_memory();
  ASSERT_NE(before, 0u);
  // Two addresses, as of every container in an overlay network: the kernel cannot choose.
  const SweptFlows gone = sweep({{kServer}, {kOther}});
  EXPECT_EQ(gone.deleted, 0u);  // nobody led them there
  // As rows they are some 8 MiB.
  EXPECT_LT(most_memory() - before, 2048u);
}

TEST(AssociationRuns, FromTheServersWordUntilBothHaveEndedIt) {
  for (uint8_t state = 0; state < SCTP_CONNTRACK_MAX; ++state) {
    const bool whole =
        state >= SCTP_CONNTRACK_COOKIE_ECHOED && state <= SCTP_CONNTRACK_SHUTDOWN_ACK_SENT;
    EXPECT_EQ(association_runs(state, true), whole || state == SCTP_CONNTRACK_COOKIE_WAIT)
        << int{state};
    EXPECT_EQ(association_runs(state, false), whole) << int{state};
  }
}

// One connection of the protocol in that state, and whether it stays.
struct Case {
  uint8_t protocol;
  uint8_t state;
  bool answered;
  bool kept;
  uint32_t expires_in_s = 600;
};

LedConnection led_to_server(const Case& c, uint16_t client_port) {
  return {kServer, client_port, c.protocol, c.state, c.answered, c.expires_in_s};
}

TEST_F(DeleteFlows, WhatABackendHasAnsweredIsKeptWhileItDrains) {
  const std::vector<Case> all = {
      {IPPROTO_TCP, TCP_CONNTRACK_SYN_SENT, false, false},
      {IPPROTO_TCP, TCP_CONNTRACK_SYN_RECV, true, true},
      {IPPROTO_TCP, TCP_CONNTRACK_ESTABLISHED, true, true},
      {IPPROTO_TCP, TCP_CONNTRACK_TIME_WAIT, true, false},
      {IPPROTO_SCTP, SCTP_CONNTRACK_COOKIE_WAIT, false, false},
      {IPPROTO_SCTP, SCTP_CONNTRACK_COOKIE_WAIT, true, true},
      {IPPROTO_SCTP, SCTP_CONNTRACK_COOKIE_ECHOED, true, true},
      {IPPROTO_SCTP, SCTP_CONNTRACK_ESTABLISHED, true, true},
      {IPPROTO_SCTP, SCTP_CONNTRACK_SHUTDOWN_SENT, true, true},
      {IPPROTO_SCTP, SCTP_CONNTRACK_CLOSED, true, false},
      {IPPROTO_UDP, 0, true, false, 20},
      {IPPROTO_UDP, 0, false, false, 20},
      {IPPROTO_UDP, 0, true, false, 30},
  };
  // Source ports tell them apart.
  const auto port = [](size_t i) { return static_cast<uint16_t>(2001 + i); };
  const auto there = [&](size_t i) {
    bool found = false;
    nfgenmsg header{};
    header.nfgen_family = AF_INET;
    header.version = NFNETLINK_V0;
    Message list((NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_GET, 0, "list connections");
    list.header(header);
    const Status listed = socket_->query(list, true, [&](nlmsghdr* h) {
      const std::string_view bytes(reinterpret_cast<const char*>(h), h->nlmsg_len);
      const uint16_t wanted = htons(port(i));
      found = found || bytes.find({reinterpret_cast<const char*>(&wanted), sizeof(wanted)}) !=
                           std::string_view::npos;
    });
    EXPECT_TRUE(listed.ok()) << listed.message();
    return found;
  };
  for (size_t i = 0; i < all.size(); ++i) {
    run(led_connection(led_to_server(all[i], port(i))));
    ASSERT_TRUE(there(i)) << i;
  }
  const auto kept = static_cast<size_t>(
      std::count_if(all.begin(), all.end(), [](const Case& c) { return c.kept; }));
  const std::vector<FlowFilter> drains = {{kServer, std::nullopt, 8080, 80, Lasting::kAnswered}};
  // What it has not answered yet it may be about to, and what somebody has just said, too.
  const SweptFlows first = sweep(drains);
  EXPECT_EQ(first.deleted, all.size() - kept - 4);
  EXPECT_EQ(first.awaited.size(), 4u);
  EXPECT_TRUE(there(0) && there(4) && there(11) && there(12));
  const SweptFlows second = sweep(drains, first.awaited);
  EXPECT_EQ(second.deleted, 4u);
  EXPECT_TRUE(second.awaited.empty());
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(there(i), all[i].kept) << int{all[i].protocol} << " in state " << int{all[i].state};
  }
  // With the container everything goes.
  const SweptFlows rest = sweep({{kServer}});
  EXPECT_EQ(rest.deleted, kept);
}

// One backend alone is looked for by the kernel itself where it can.
TEST_F(DeleteFlows, OfOneBackendAmongOthersInBothFamilies) {
  for (const char* prefix : {"10.0.0.", "fd00::"}) {
    const Ip server = *Ip::parse(fmt::format("{}2", prefix));
    const Ip other = *Ip::parse(fmt::format("{}3", prefix));
    run(led_connection({server, 2001, IPPROTO_UDP, 0, true}));
    run(led_connection({other, 2002, IPPROTO_UDP, 0, true}));
    const SweptFlows gone = sweep({{server}});
    EXPECT_EQ(gone.deleted, 1u) << prefix;
    EXPECT_EQ(*led_backends(*socket_, {*Prefix::parse("fd00::/64"), *Prefix::parse("10.0.0.0/24")}),
              std::set<Ip>{other});
    const SweptFlows rest = sweep({{other}});
    EXPECT_EQ(rest.deleted, 1u) << prefix;
  }
}

TEST_F(DeleteFlows, OfABackendThatNobodySeesOnlyWhatIsEstablishedStays) {
  const std::vector<Case> all = {
      {IPPROTO_TCP, TCP_CONNTRACK_SYN_SENT, false, false},
      {IPPROTO_TCP, TCP_CONNTRACK_SYN_RECV, true, false},
      {IPPROTO_TCP, TCP_CONNTRACK_ESTABLISHED, true, true},
      {IPPROTO_TCP, TCP_CONNTRACK_FIN_WAIT, true, false},
      {IPPROTO_TCP, TCP_CONNTRACK_LAST_ACK, true, false},
      {IPPROTO_SCTP, SCTP_CONNTRACK_COOKIE_ECHOED, true, false},
      {IPPROTO_SCTP, SCTP_CONNTRACK_ESTABLISHED, true, true},
      {IPPROTO_UDP, 0, true, false},
  };
  std::vector<Message> make;
  for (size_t i = 0; i < all.size(); ++i) {
    make.push_back(led_connection(led_to_server(all[i], static_cast<uint16_t>(2001 + i))));
  }
  // Another backend's, and one that nobody led anywhere.
  make.push_back(led_connection({kOther, 3001, IPPROTO_TCP, TCP_CONNTRACK_FIN_WAIT, true}));
  make.push_back(connection(led_client(false), 3002));
  run(make);

  const auto subnet = *Prefix::parse("10.0.0.0/24");
  auto led = led_backends(*socket_, {subnet, *Prefix::parse("fd00::/64")});
  ASSERT_TRUE(led) << led.error().message();
  EXPECT_EQ(*led, (std::set<Ip>{kServer, kOther}));
  EXPECT_EQ(*led_backends(*socket_, {*Prefix::parse("10.0.1.0/24")}), std::set<Ip>());

  const SweptFlows swept = sweep({{.backend = kServer, .lasting = Lasting::kEstablished}});
  EXPECT_EQ(swept.deleted, 6u);
  EXPECT_EQ(swept.established, 2u);
  EXPECT_TRUE(swept.awaited.empty());
  const SweptFlows rest = sweep({{kServer}});
  EXPECT_EQ(rest.deleted, 2u);
  EXPECT_EQ(*led_backends(*socket_, {subnet}), std::set<Ip>{kOther});
}

// What led_connection() makes, as a virtual address's flow to a backend that has yet to answer.
class DeleteStaleFlows : public ConnectionTable {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(ConnectionTable::SetUp());
    auto connections = WireSocket::open(NETLINK_NETFILTER);
    ASSERT_TRUE(connections) << connections.error().message();
    connections_ = *std::move(connections);
    make();
  }

  void make(uint16_t client_port = 2001) {
    run(led_connection({kServer, client_port, IPPROTO_TCP, TCP_CONNTRACK_SYN_SENT, false}));
  }
  void drop() {
    nfgenmsg header{};
    header.nfgen_family = AF_INET;
    header.version = NFNETLINK_V0;
    Message m((NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_DELETE, 0, "delete a connection");
    m.header(header);
    put_tuple(m, CTA_TUPLE_ORIG, led_client(false), 2001, led_asked(false), 80, IPPROTO_TCP);
    run(std::move(m));
  }

  const Ip kVip = led_asked(false);
  WireSocket connections_;
};

TEST_F(DeleteStaleFlows, ABackendThatCameWhileTheyWereListedKeepsItsOwn) {
  const auto allowed = std::make_shared<VipFlows>(VipFlows{{}, {kServer}, {kServer}, true});
  int asked = 0;
  auto deleted = delete_stale_flows(connections_, LedBy::kNftables, {kVip}, [&] {
    return ++asked == 1 ? std::map<Ip, VipFlowsPtr>() : std::map<Ip, VipFlowsPtr>{{kVip, allowed}};
  });
  ASSERT_TRUE(deleted) << deleted.error().message();
  EXPECT_EQ(*deleted, 0u);
  EXPECT_EQ(count(), "1");
  // What is of other addresses is not looked at, and one without backends has none.
  const auto none = [] { return std::map<Ip, VipFlowsPtr>(); };
  EXPECT_EQ(*delete_stale_flows(connections_, LedBy::kNftables, {kServer}, none), 0u);
  EXPECT_EQ(*delete_stale_flows(connections_, LedBy::kNftables, {kVip}, none), 1u);
  EXPECT_EQ(count(), "0");
}

TEST_F(DeleteStaleFlows, AConnectionInThePlaceOfAListedOneStays) {
  int asked = 0;
  const auto deleted = delete_stale_flows(connections_, LedBy::kNftables, {kVip}, [&] {
    if (++asked == 2) {
      drop();
      // The kernel's id is made of a connection's place in memory and its tuple.
      make(2002);
      make();
    }
    return std::map<Ip, VipFlowsPtr>();
  });
  ASSERT_TRUE(deleted) << deleted.error().message();
  EXPECT_EQ(count(), "2");
}

TEST_F(DeleteStaleFlows, AnAnswerOfDatagramsThatMayBeUnderWayIsWaitedForOnce) {
  const auto drains = std::make_shared<VipFlows>(VipFlows{{}, {kServer}, {kServer}, true});
  const auto drained = [&] { return std::map<Ip, VipFlowsPtr>{{kVip, drains}}; };
  std::set<std::string> spared;
  const auto look = [&] {
    const auto deleted =
        delete_stale_flows(connections_, LedBy::kNftables, {kVip}, drained, &spared);
    EXPECT_TRUE(deleted) << deleted.error().message();
    return deleted ? *deleted : 0;
  };
  drop();
  run(led_connection({kServer, 2002, IPPROTO_UDP, 0, false, 20}));
  run(led_connection({kServer, 2003, IPPROTO_UDP, 0, true, 20}));
  run(led_connection({kServer, 2004, IPPROTO_UDP, 0, true, 30}));
  EXPECT_EQ(look(), 1u) << "the one that is silent";
  EXPECT_EQ(spared.size(), 2u);
  // Another one's time begins with its own first look.
  run(led_connection({kServer, 2005, IPPROTO_UDP, 0, true, 30}));
  EXPECT_EQ(look(), 2u);
  EXPECT_EQ(spared.size(), 1u);
  EXPECT_EQ(look(), 1u);
  EXPECT_TRUE(spared.empty());
  EXPECT_EQ(count(), "0");
}

TEST_F(DeleteStaleFlows, NoAnswerIsWaitedForOfABackendThatIsGone) {
  const auto nobody = [] { return std::map<Ip, VipFlowsPtr>(); };
  run(led_connection({kServer, 2002, IPPROTO_UDP, 0, false, 30}));
  run(led_connection({kServer, 2003, IPPROTO_UDP, 0, true, 30}));
  std::set<std::string> spared;
  EXPECT_EQ(*delete_stale_flows(connections_, LedBy::kNftables, {kVip}, nobody, &spared), 3u);
  EXPECT_TRUE(spared.empty());
}

}  // namespace
}  // namespace muster::overlay::testing
