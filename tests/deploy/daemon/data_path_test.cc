#include "deploy/daemon/data_path.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace muster::daemon {
namespace {

using testing::HasSubstr;

TEST(DataPathTest, PortsAreThoseOfDocker) {
  for (const uint32_t port : {0u, 1024u, 4789u, 49151u}) {
    EXPECT_TRUE(check_data_path_port(port).ok()) << port;
  }
  for (const uint32_t port : {1u, 1023u, 49152u, 65536u}) {
    const Status status = check_data_path_port(port);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << port;
    EXPECT_THAT(status.message(), HasSubstr("(1024-49151)"));
  }
}

TEST(DataPathTest, AnAddressHasToBeThisHosts) {
  EXPECT_EQ(*find_data_path_address("127.0.0.1"), "127.0.0.1");
  EXPECT_EQ(*find_data_path_address("lo"), "127.0.0.1");
  const std::pair<const char*, const char*> refused[] = {
      {"192.0.2.77", "data path address 192.0.2.77 is not an address of this host"},
      {"2001:db8::77", "data path address 2001:db8::77 is not an address of this host"},
      {"none-such", "neither an IP address nor an interface"},
      {"127.0.0.1:4789", "--data-path-port"},
  };
  for (const auto& [wanted, why] : refused) {
    const auto found = find_data_path_address(wanted);
    ASSERT_FALSE(found) << wanted;
    EXPECT_EQ(found.error().code(), StatusCode::kInvalidArgument) << wanted;
    EXPECT_THAT(found.error().message(), HasSubstr(why));
  }
}

TEST(DataPathTest, WithoutOneItIsTheAdvertisedAddress) {
  Membership membership;
  EXPECT_EQ(data_path_address(membership), "");
  EXPECT_EQ(describe_data_path(membership, null_log()).mtu(), 0u);
  membership.advertise_addr = "127.0.0.1:2377";
  EXPECT_EQ(data_path_address(membership), "127.0.0.1");
  EXPECT_EQ(local_data_path(membership), "127.0.0.1");
  membership.advertise_addr = "[2001:db8::1]:2377";
  EXPECT_EQ(data_path_address(membership), "2001:db8::1");
  membership.data_path_addr = "127.0.0.1";
  const v1::DataPath described = describe_data_path(membership, null_log());
  EXPECT_EQ(described.address(), "127.0.0.1");
  EXPECT_GE(described.mtu(), 1500u) << "loopback's";
}

TEST(DataPathTest, WhetherItCanEncryptIsAskedForItsFamily) {
  Membership membership;
  std::string why = "no ESP";
  overlay::EncryptionProbe probe([&](bool v6) { return why + (v6 ? " of IPv6" : ""); });
  membership.data_path_addr = "127.0.0.1";
  EXPECT_EQ(describe_no_encryption(membership, probe), "no ESP");
  membership.data_path_addr = "::1";
  EXPECT_EQ(describe_no_encryption(membership, probe), "no ESP of IPv6");
  // A module was loaded.
  membership.data_path_addr = "127.0.0.1";
  why = "";
  EXPECT_EQ(describe_no_encryption(membership, probe), "");
}

TEST(DataPathTest, ATranslatedAddressIsToldAndNotUsed) {
  overlay::EncryptionProbe can([](bool) { return ""; });
  Membership membership;
  membership.advertise_addr = "192.0.2.77:2377";
  EXPECT_EQ(data_path_address(membership), "192.0.2.77");
  EXPECT_NE(local_data_path(membership), "");
  EXPECT_THAT(describe_no_encryption(membership, can), HasSubstr("translated on the way"));
}

}  // namespace
}  // namespace muster::daemon
