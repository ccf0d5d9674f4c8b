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

TEST(DeleteFlows, AFullTableOfConnectionsTakesNoMemory) {
  Sandbox box;
  ASSERT_TRUE(box.ok()) << box.error();
  auto socket = NetlinkSocket::open(NETLINK_NETFILTER);
  ASSERT_TRUE(socket) << socket.error().message();
  constexpr uint16_t kClients = 30'000;
  {
    std::vector<Message> make;
    for (uint16_t i = 0; i < kClients; ++i)
      make.push_back(connection(Ip::v4(0x0a010001 + i), 1024));
    const Status made = socket->run(make);
    ASSERT_TRUE(made.ok()) << made.message();
  }
  ASSERT_EQ(box.run("", "cat /proc/sys/net/netfilter/nf_conntrack_count"),
            std::to_string(kClients));
  // What is free already would hide what is taken.
  malloc_trim(0);
  std::ofstream("/proc/self/clear_refs") << "5";
  const size_t before = most_memory();
  ASSERT_NE(before, 0u);
  // Two addresses, as of every container in an overlay network: the kernel cannot choose.
  const auto gone = delete_flows(*socket, {{kServer, std::nullopt, 0, 0, Lasting::kNone},
                                           {kOther, std::nullopt, 0, 0, Lasting::kNone}});
  ASSERT_TRUE(gone) << gone.error().message();
  EXPECT_EQ(gone->deleted, 0u);  // nobody led them there
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
};

LedConnection led_to_server(const Case& c, uint16_t client_port) {
  return {kServer, client_port, c.protocol, c.state, c.answered};
}

TEST(DeleteFlows, WhatABackendHasAnsweredIsKeptWhileItDrains) {
  Sandbox box;
  ASSERT_TRUE(box.ok()) << box.error();
  auto socket = NetlinkSocket::open(NETLINK_NETFILTER);
  ASSERT_TRUE(socket) << socket.error().message();
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
      {IPPROTO_UDP, 0, true, false},
      {IPPROTO_UDP, 0, false, false},
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
    const Status listed = socket->query(list, true, [&](nlmsghdr* h) {
      const std::string_view bytes(reinterpret_cast<const char*>(h), h->nlmsg_len);
      const uint16_t wanted = htons(port(i));
      found = found || bytes.find({reinterpret_cast<const char*>(&wanted), sizeof(wanted)}) !=
                           std::string_view::npos;
    });
    EXPECT_TRUE(listed.ok()) << listed.message();
    return found;
  };
  for (size_t i = 0; i < all.size(); ++i) {
    std::vector<Message> make;
    make.push_back(led_connection(led_to_server(all[i], port(i))));
    const Status made = socket->run(make);
    ASSERT_TRUE(made.ok()) << i << ": " << made.message();
    ASSERT_TRUE(there(i)) << i;
  }
  const auto kept = static_cast<size_t>(
      std::count_if(all.begin(), all.end(), [](const Case& c) { return c.kept; }));
  const std::vector<FlowFilter> drains = {{kServer, std::nullopt, 8080, 80, Lasting::kAnswered}};
  // What it has not answered yet it may be about to.
  const auto first = delete_flows(*socket, drains);
  ASSERT_TRUE(first) << first.error().message();
  EXPECT_EQ(first->deleted, all.size() - kept - 3);
  EXPECT_EQ(first->unanswered.size(), 3u);
  EXPECT_TRUE(there(0) && there(4) && there(11));
  const auto second = delete_flows(*socket, drains, first->unanswered);
  ASSERT_TRUE(second) << second.error().message();
  EXPECT_EQ(second->deleted, 3u);
  EXPECT_TRUE(second->unanswered.empty());
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(there(i), all[i].kept) << int{all[i].protocol} << " in state " << int{all[i].state};
  }
  // With the container everything goes.
  const auto rest = delete_flows(*socket, {{kServer, std::nullopt, 0, 0, Lasting::kNone}});
  ASSERT_TRUE(rest) << rest.error().message();
  EXPECT_EQ(rest->deleted, kept);
}

// One backend alone is looked for by the kernel itself where it can.
TEST(DeleteFlows, OfOneBackendAmongOthersInBothFamilies) {
  Sandbox box;
  ASSERT_TRUE(box.ok()) << box.error();
  auto socket = NetlinkSocket::open(NETLINK_NETFILTER);
  ASSERT_TRUE(socket) << socket.error().message();
  for (const char* prefix : {"10.0.0.", "fd00::"}) {
    const Ip server = *Ip::parse(fmt::format("{}2", prefix));
    const Ip other = *Ip::parse(fmt::format("{}3", prefix));
    std::vector<Message> make;
    make.push_back(led_connection({server, 2001, IPPROTO_UDP, 0, true}));
    make.push_back(led_connection({other, 2002, IPPROTO_UDP, 0, true}));
    const Status made = socket->run(make);
    ASSERT_TRUE(made.ok()) << made.message();
    const auto gone = delete_flows(*socket, {{server, std::nullopt, 0, 0, Lasting::kNone}});
    ASSERT_TRUE(gone) << gone.error().message();
    EXPECT_EQ(gone->deleted, 1u) << prefix;
    EXPECT_EQ(*led_backends(*socket, {*Prefix::parse("fd00::/64"), *Prefix::parse("10.0.0.0/24")}),
              std::set<Ip>{other});
    const auto rest = delete_flows(*socket, {{other, std::nullopt, 0, 0, Lasting::kNone}});
    ASSERT_TRUE(rest) << rest.error().message();
    EXPECT_EQ(rest->deleted, 1u) << prefix;
  }
}

TEST(DeleteFlows, OfABackendThatNobodySeesOnlyWhatIsEstablishedStays) {
  Sandbox box;
  ASSERT_TRUE(box.ok()) << box.error();
  auto socket = NetlinkSocket::open(NETLINK_NETFILTER);
  ASSERT_TRUE(socket) << socket.error().message();
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
  const Status made = socket->run(make);
  ASSERT_TRUE(made.ok()) << made.message();

  const auto subnet = *Prefix::parse("10.0.0.0/24");
  auto led = led_backends(*socket, {subnet, *Prefix::parse("fd00::/64")});
  ASSERT_TRUE(led) << led.error().message();
  EXPECT_EQ(*led, (std::set<Ip>{kServer, kOther}));
  EXPECT_EQ(*led_backends(*socket, {*Prefix::parse("10.0.1.0/24")}), std::set<Ip>());

  const auto swept = delete_flows(*socket, {{kServer, std::nullopt, 0, 0, Lasting::kEstablished}});
  ASSERT_TRUE(swept) << swept.error().message();
  EXPECT_EQ(swept->deleted, 6u);
  EXPECT_EQ(swept->established, 2u);
  EXPECT_TRUE(swept->unanswered.empty());
  const auto rest = delete_flows(*socket, {{kServer, std::nullopt, 0, 0, Lasting::kNone}});
  ASSERT_TRUE(rest) << rest.error().message();
  EXPECT_EQ(rest->deleted, 2u);
  EXPECT_EQ(*led_backends(*socket, {subnet}), std::set<Ip>{kOther});
}

// What led_connection() makes, as a virtual address's flow to a backend that has yet to answer.
class DeleteStaleFlows : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(box_.ok()) << box_.error();
    auto opened = NetlinkSocket::open(NETLINK_NETFILTER);
    ASSERT_TRUE(opened) << opened.error().message();
    socket_.emplace(*std::move(opened));
    auto connections = WireSocket::open(NETLINK_NETFILTER);
    ASSERT_TRUE(connections) << connections.error().message();
    connections_ = *std::move(connections);
    make();
  }

  void run(Message message) {
    std::vector<Message> messages;
    messages.push_back(std::move(message));
    const Status ran = socket_->run(messages);
    ASSERT_TRUE(ran.ok()) << ran.message();
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
  std::string count() { return box_.run("", "cat /proc/sys/net/netfilter/nf_conntrack_count"); }

  const Ip kVip = led_asked(false);
  Sandbox box_;
  std::optional<NetlinkSocket> socket_;
  WireSocket connections_;
};

TEST_F(DeleteStaleFlows, ABackendThatCameWhileTheyWereListedKeepsItsOwn) {
  const auto allowed = std::make_shared<VipFlows>(VipFlows{{}, {kServer}, {kServer}, true});
  int asked = 0;
  auto deleted = delete_stale_flows(connections_, {kVip}, [&] {
    return ++asked == 1 ? std::map<Ip, VipFlowsPtr>() : std::map<Ip, VipFlowsPtr>{{kVip, allowed}};
  });
  ASSERT_TRUE(deleted) << deleted.error().message();
  EXPECT_EQ(*deleted, 0u);
  EXPECT_EQ(count(), "1");
  // What is of other addresses is not looked at, and one without backends has none.
  const auto none = [] { return std::map<Ip, VipFlowsPtr>(); };
  EXPECT_EQ(*delete_stale_flows(connections_, {kServer}, none), 0u);
  EXPECT_EQ(*delete_stale_flows(connections_, {kVip}, none), 1u);
  EXPECT_EQ(count(), "0");
}

TEST_F(DeleteStaleFlows, AConnectionInThePlaceOfAListedOneStays) {
  int asked = 0;
  const auto deleted = delete_stale_flows(connections_, {kVip}, [&] {
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

}  // namespace
}  // namespace muster::overlay::testing
