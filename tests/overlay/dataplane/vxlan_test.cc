// A kernel without VXLAN: no container enters an overlay network, whoever comes first.
#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include "overlay/dataplane/segment/vxlan_probe.h"
#include "tests/overlay/dataplane/node_network_test.h"

namespace {

std::atomic<bool> without_vxlan{false};
// What asks for one is not even sent, with this errno.
std::atomic<int> unsent{0};

// IFLA_INFO_KIND with its length, as the kernel is told it on a little-endian machine.
constexpr std::string_view kKind{"\x0a\0\1\0vxlan\0", 10};

}  // namespace

// In place of the library's: what asks for a VXLAN device asks for a kind that no kernel has, so
// that the refusal is the kernel's own.
extern "C" ssize_t send(int fd, const void* data, size_t size, int flags) {
  using Send = ssize_t (*)(int, const void*, size_t, int);
  static const auto real = reinterpret_cast<Send>(dlsym(RTLD_NEXT, "send"));
  std::string told(static_cast<const char*>(data), size);
  const size_t at = told.find(kKind);
  if (at != std::string::npos && unsent != 0) {
    errno = unsent;
    return -1;
  }
  if (at == std::string::npos || !without_vxlan) return real(fd, data, size, flags);
  told[at + 5] = 'y';
  return real(fd, told.data(), told.size(), flags);
}

namespace muster::overlay::testing {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

class VxlanTest : public NodeNetworkTest {
 protected:
  void SetUp() override {
    without_vxlan = true;
    NodeNetworkTest::SetUp();
  }
  void TearDown() override {
    without_vxlan = false;
    unsent = 0;
  }

  const ContainerNetworkRequest asked_ =
      request("c1", overlay_network("net-a", "10.50.0.0/24", "10.50.0.1"), "10.50.0.5/24");
};

TEST_F(VxlanTest, IsTriedForReal) {
  EXPECT_THAT(*vxlan_trouble(), StartsWith(std::string(kNoVxlan)));
  without_vxlan = false;
  EXPECT_EQ(*vxlan_trouble(), "");
}

TEST_F(VxlanTest, TheKernelsRefusalSaysSoNotTheWordsOfAnotherFailure) {
  without_vxlan = false;
  for (const int error : {EAFNOSUPPORT, EPROTONOSUPPORT, EOPNOTSUPP}) {
    ASSERT_THAT(std::strerror(error), HasSubstr("not supported"));
    unsent = error;
    EXPECT_EQ(vxlan_trouble(), std::nullopt) << "it could not be asked";
  }
}

TEST_F(VxlanTest, WithoutItNoContainerEntersEvenIfItIsAlone) {
  const auto refused = net_->attach(asked_);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), StatusCode::kFailedPrecondition);
  EXPECT_THAT(refused.error().message(),
              HasSubstr("network net-a cannot be entered on this node: " + std::string(kNoVxlan)));
  // Nothing is half made.
  EXPECT_EQ(box_.run("", "ls " + box_.dir() + "/n1/netns " + box_.dir() + "/n1/inside | grep -v :"),
            "");
  EXPECT_EQ(box_.run("", "ip -o link | grep -o 'alias muster.*'"), "");
  EXPECT_THAT(net_->limitations(),
              Contains(StartsWith("no container can enter an overlay network here: this kernel")));
  // Networks of this node alone are as ever.
  attach(request("c2", bridge_network("net-b", "10.51.0.0/24", "10.51.0.1"), "10.51.0.5/24"));
}

TEST_F(VxlanTest, ANodeOfASwarmKnowsBeforeAnybodyComes) {
  EXPECT_THAT(net_->limitations(), IsEmpty());
  ASSERT_TRUE(net_->set_local_node({"node1", "192.0.2.1", 4789}).ok());
  EXPECT_THAT(net_->limitations(), Contains(HasSubstr("no container can enter")));
  EXPECT_THAT(net_->no_overlays(), StartsWith(std::string(kNoVxlan)));
  // A module that is loaded later.
  without_vxlan = false;
  EXPECT_THAT(net_->repair(), IsEmpty());
  EXPECT_THAT(net_->limitations(), Not(Contains(HasSubstr("no container can enter"))));
  EXPECT_EQ(net_->no_overlays(), "");
  attach(asked_);
}

TEST_F(VxlanTest, ARunningContainerCannotEnterEither) {
  without_vxlan = false;
  auto r = asked_;
  attach(r);
  net_.reset();
  without_vxlan = true;
  net_ = box_.make_network();
  ASSERT_NE(net_, nullptr);
  r.links.push_back(
      {overlay_network("net-c", "10.52.0.0/24", "10.52.0.1"), {"10.52.0.5/24"}, "", true});
  const Status refused = net_->reconnect(r, nullptr);
  EXPECT_THAT(refused.message(), HasSubstr("network net-c cannot be entered on this node"));
}

}  // namespace
}  // namespace muster::overlay::testing
