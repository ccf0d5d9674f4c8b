#include "overlay/dataplane/kernel/conntrack.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <malloc.h>
#include <netinet/in.h>

#include <fstream>
#include <string>
#include <vector>

#include "overlay/dataplane/kernel/netlink.h"
#include "tests/overlay/dataplane/sandbox.h"

namespace muster::overlay::testing {
namespace {

constexpr uint32_t kServer = 0x0a000002;  // 10.0.0.2

void put_tuple(Message& m, int which, uint32_t from, uint16_t from_port, uint32_t to,
               uint16_t to_port) {
  m.begin(which | NLA_F_NESTED)
      .begin(CTA_TUPLE_IP | NLA_F_NESTED)
      .put_u32(CTA_IP_V4_SRC, htonl(from))
      .put_u32(CTA_IP_V4_DST, htonl(to))
      .end()
      .begin(CTA_TUPLE_PROTO | NLA_F_NESTED)
      .put_u8(CTA_PROTO_NUM, IPPROTO_UDP)
      .put_u16(CTA_PROTO_SRC_PORT, htons(from_port))
      .put_u16(CTA_PROTO_DST_PORT, htons(to_port))
      .end()
      .end();
}

Message connection(uint32_t client, uint16_t port) {
  nfgenmsg header{};
  header.nfgen_family = AF_INET;
  header.version = NFNETLINK_V0;
  Message m((NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_NEW, NLM_F_CREATE | NLM_F_EXCL,
            "make a connection", 512);
  m.header(header);
  put_tuple(m, CTA_TUPLE_ORIG, client, port, kServer, 53);
  put_tuple(m, CTA_TUPLE_REPLY, kServer, 53, client, port);
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
    for (uint16_t i = 0; i < kClients; ++i) make.push_back(connection(0x0a010001 + i, 1024));
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
  const auto gone = delete_flows(*socket, {{Ip::v4(kServer), std::nullopt, 0, 0, false},
                                           {Ip::v4(kServer + 1), std::nullopt, 0, 0, false}});
  ASSERT_TRUE(gone) << gone.error().message();
  EXPECT_EQ(*gone, 0u);  // nobody led them there
  // As rows they are some 8 MiB.
  EXPECT_LT(most_memory() - before, 2048u);
}

}  // namespace
}  // namespace muster::overlay::testing
