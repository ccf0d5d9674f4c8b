#include "overlay/dataplane/kernel/netlink.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/nexthop.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <cerrno>

#include "overlay/dataplane/vip/client_wire.h"
#include "tests/overlay/dataplane/sandbox.h"

// Listings of the kernel that go wrong in their middle.
namespace muster::overlay::testing {
namespace {

class NetlinkTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(box_.ok()) << box_.error(); }

  Sandbox box_;
};

// The kernel looks at what is asked for when it has begun to answer, so that its refusal is the end
// of a listing.
Message impossible_listing() {
  Message m(RTM_GETNEXTHOP, 0, "list next hops");
  m.header(nhmsg{}).put_u32(NHA_OIF, UINT32_MAX);
  return m;
}

TEST_F(NetlinkTest, AListingThatFailsUnderWayIsNoEmptyOne) {
  auto socket = NetlinkSocket::open(NETLINK_ROUTE);
  ASSERT_TRUE(socket) << socket.error().message();
  const Status listed = socket->query(impossible_listing(), true, [](nlmsghdr*) {});
  EXPECT_EQ(listed.message(), "list next hops: Invalid argument");
  EXPECT_TRUE(
      socket->query(std::move(impossible_listing().tolerate(EINVAL)), true, [](nlmsghdr*) {}).ok());
}

TEST_F(NetlinkTest, AListingOfATableThatIsNotThereSaysSo) {
  auto socket = WireSocket::open(NETLINK_ROUTE);
  ASSERT_TRUE(socket) << socket.error().message();
  Wire wire;
  rtmsg request{};
  request.rtm_family = AF_INET;
  wire.begin(RTM_GETROUTE, NLM_F_DUMP, request);
  wire.u32(RTA_TABLE, 4242);
  wire.end();
  EXPECT_EQ(socket->query(wire, [](const nlmsghdr*) {}).code(), StatusCode::kNotFound);
}

}  // namespace
}  // namespace muster::overlay::testing
