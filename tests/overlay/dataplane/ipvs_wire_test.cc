#include "overlay/dataplane/vip/ipvs_wire.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/genetlink.h>
#include <linux/ip_vs.h>
#include <sys/socket.h>

#include <cstring>

namespace muster::overlay {
namespace {

using What = IpvsStep::What;

constexpr uint16_t kFamily = 0x21;

std::string hex(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) out += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return out;
}

IpvsStep step(What what, bool v6 = false) {
  IpvsStep out;
  out.what = what;
  out.v6 = v6;
  out.mark = 0x49000002;
  out.shape = {"wlc", IP_VS_SVC_F_PERSISTENT, 600};
  out.backend = {v6 ? *Ip::parse("fd00::7") : *Ip::parse("10.0.1.7"), 5};
  return out;
}

// A request taken apart: the command, then each attribute as TYPE=HEX, nests in brackets.
std::string shown(const std::string& bytes) {
  nlmsghdr head{};
  genlmsghdr genl{};
  std::memcpy(&head, bytes.data(), sizeof(head));
  std::memcpy(&genl, bytes.data() + NLMSG_HDRLEN, sizeof(genl));
  EXPECT_EQ(head.nlmsg_len, bytes.size());
  EXPECT_EQ(head.nlmsg_type, kFamily);
  EXPECT_EQ(genl.version, 1);
  std::string out =
      fmt::format("{}{}", int{genl.cmd}, head.nlmsg_flags & NLM_F_DUMP ? " dump" : "");
  std::string_view all = std::string_view(bytes).substr(NLMSG_HDRLEN + GENL_HDRLEN);
  uint16_t type = 0;
  for (std::string_view nest; (nest = next_attribute(all, &type)).data() != nullptr;) {
    out += fmt::format(" {}[", type);
    uint16_t inner = 0;
    for (std::string_view a; (a = next_attribute(nest, &inner)).data() != nullptr;) {
      out += fmt::format(" {}={}", inner, hex(a));
    }
    out += " ]";
  }
  return out;
}

std::string request(const IpvsStep& s) {
  Wire wire;
  put_ipvs_step(wire, kFamily, s);
  return shown(wire.bytes());
}

// Address families, marks and numbers are the host's (little endian here), as the kernel has them.
TEST(IpvsWire, OneRequestForEachStep) {
  const std::string service = " 1[ 1=0200 5=02000049 ]";
  const std::string whole =
      " 1[ 1=0200 5=02000049 6=776c6300 7=010000003d000000 8=58020000 9=ffffffff ]";
  const std::string backend = "1=0a000107000000000000000000000000 2=0000 11=0200";
  struct Case {
    What what;
    std::string want;
  };
  for (const Case& c :
       {Case{What::kMakeService, "1" + whole}, Case{What::kChangeService, "2" + whole},
        Case{What::kDropService, "3" + service},
        Case{What::kMakeBackend,
             "5" + service + " 2[ " + backend + " 3=00000000 4=05000000 5=00000000 6=00000000 ]"},
        Case{What::kWeighBackend,
             "6" + service + " 2[ " + backend + " 3=00000000 4=05000000 5=00000000 6=00000000 ]"},
        Case{What::kDropBackend, "7" + service + " 2[ " + backend + " ]"}}) {
    EXPECT_EQ(request(step(c.what)), c.want);
  }
}

TEST(IpvsWire, OfIpv6) {
  EXPECT_EQ(request(step(What::kMakeService, true)),
            "1 1[ 1=0a00 5=02000049 6=776c6300 7=010000003d000000 8=58020000 9=80000000 ]");
  EXPECT_EQ(request(step(What::kDropBackend, true)),
            "7 1[ 1=0a00 5=02000049 ] 2[ 1=fd000000000000000000000000000007 2=0000 11=0a00 ]");
}

TEST(IpvsWire, Questions) {
  Wire services, backends;
  put_ipvs_services(services, kFamily);
  EXPECT_EQ(shown(services.bytes()), "4 dump");
  put_ipvs_backends(backends, kFamily, true, 0x49000003);
  EXPECT_EQ(shown(backends.bytes()), "8 dump 1[ 1=0a00 5=03000049 ]");
}

TEST(IpvsWire, HowLongFlowsAreRemembered) {
  const auto number = [](uint16_t type, uint32_t value) {
    Wire wire;
    wire.begin(kFamily, 0, genlmsghdr{IPVS_CMD_SET_CONFIG, IPVS_GENL_VERSION, 0});
    wire.u32(type, value);
    wire.end();
    return read_ipvs_timeouts(reinterpret_cast<const nlmsghdr*>(wire.bytes().data()));
  };
  const IpvsTimeouts all{432000, 120, 300};
  Wire wire;
  put_ipvs_timeouts(wire, kFamily, all);
  const std::string_view bytes = wire.bytes();
  EXPECT_EQ(hex(bytes.substr(NLMSG_HDRLEN, 4)), "0c010000");
  EXPECT_EQ(hex(bytes.substr(NLMSG_HDRLEN + GENL_HDRLEN)),
            "0800040080970600"
            "0800050078000000"
            "080006002c010000");
  EXPECT_EQ(read_ipvs_timeouts(reinterpret_cast<const nlmsghdr*>(wire.bytes().data())), all);
  EXPECT_EQ(number(4, 900), (IpvsTimeouts{900, 0, 0}));
  EXPECT_EQ(number(5, 900), (IpvsTimeouts{0, 900, 0}));
  EXPECT_EQ(number(6, 900), (IpvsTimeouts{0, 0, 900}));
  wire.clear();
  ask_ipvs_timeouts(wire, kFamily);
  EXPECT_EQ(shown(wire.bytes()), "13");
}

TEST(IpvsWire, WhatTheKernelListsIsWhatWasAskedFor) {
  for (const bool v6 : {false, true}) {
    Wire wire;
    put_ipvs_step(wire, kFamily, step(What::kMakeBackend, v6));
    const auto backend = read_ipvs_backend(reinterpret_cast<const nlmsghdr*>(wire.bytes().data()));
    ASSERT_TRUE(backend);
    EXPECT_EQ(*backend, step(What::kMakeBackend, v6).backend);
    wire.clear();
    put_ipvs_step(wire, kFamily, step(What::kMakeService, v6));
    const auto service = read_ipvs_service(reinterpret_cast<const nlmsghdr*>(wire.bytes().data()));
    ASSERT_TRUE(service);
    EXPECT_EQ(service->v6, v6);
    EXPECT_EQ(service->mark, 0x49000002u);
    EXPECT_EQ(service->shape, step(What::kMakeService).shape);
  }
}

TEST(IpvsWire, TheKernelsOwnFlagsAndTimesAreNotOurs) {
  IpvsStep made = step(What::kMakeService);
  made.shape = {"wrr", IP_VS_SVC_F_HASHED, 360};
  Wire wire;
  put_ipvs_step(wire, kFamily, made);
  const auto service = read_ipvs_service(reinterpret_cast<const nlmsghdr*>(wire.bytes().data()));
  ASSERT_TRUE(service);
  EXPECT_EQ(service->shape, (IpvsShape{"wrr", 0, 0}));
}

TEST(IpvsWire, ServicesWithoutAMarkAndRubbishAreNone) {
  Wire wire;
  put_ipvs_services(wire, kFamily);
  const auto* message = reinterpret_cast<const nlmsghdr*>(wire.bytes().data());
  EXPECT_FALSE(read_ipvs_service(message));
  EXPECT_FALSE(read_ipvs_backend(message));
  for (size_t cut = 0; cut < 40; cut += 4) {
    Wire whole;
    put_ipvs_step(whole, kFamily, step(What::kMakeBackend));
    std::string bytes = whole.bytes();
    const auto length = static_cast<uint32_t>(NLMSG_HDRLEN + cut);
    std::memcpy(bytes.data(), &length, sizeof(length));
    (void)read_ipvs_service(reinterpret_cast<const nlmsghdr*>(bytes.data()));
    EXPECT_FALSE(read_ipvs_backend(reinterpret_cast<const nlmsghdr*>(bytes.data())));
  }
}

}  // namespace
}  // namespace muster::overlay
