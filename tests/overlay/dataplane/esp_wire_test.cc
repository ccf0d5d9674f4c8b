#include "overlay/dataplane/esp/esp_wire.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/netlink.h>
#include <linux/udp.h>
#include <linux/xfrm.h>

#include <cstring>

namespace muster::overlay {
namespace {

const Ip kA = *Ip::parse("10.1.0.1");
const Ip kB = *Ip::parse("10.1.0.2");
const EspOwner kOwner{0x40000007, 0x5d000007, kA, 4790};

template <class T>
const T& header_of(const Message& m) {
  return *static_cast<const T*>(NLMSG_DATA(m.wire()));
}
// The attribute's value; empty where there is none.
template <class T>
std::string attribute(const Message& m, int type) {
  const char* at = static_cast<const char*>(NLMSG_DATA(m.wire())) + NLMSG_ALIGN(sizeof(T));
  const char* end = reinterpret_cast<const char*>(m.wire()) + m.wire()->nlmsg_len;
  while (at + NLA_HDRLEN <= end) {
    const auto* attribute = reinterpret_cast<const nlattr*>(at);
    if (attribute->nla_type == type) return std::string(at + NLA_HDRLEN, at + attribute->nla_len);
    at += NLA_ALIGN(attribute->nla_len);
  }
  return "";
}
template <class T>
T as(const std::string& bytes) {
  T out{};
  EXPECT_GE(bytes.size(), sizeof(out));
  std::memcpy(&out, bytes.data(), std::min(bytes.size(), sizeof(out)));
  return out;
}

TEST(EspWireTest, AStateSaysWhoEncryptsForWhomAndHow) {
  const EspState state{kA, std::string(36, 'k'), 4500};
  const EspChange add{EspChange::Kind::kAddState, false, {kB, 0x41020304}, state};
  const Message m = esp_message(add, kOwner);
  EXPECT_EQ(m.wire()->nlmsg_type, XFRM_MSG_NEWSA);
  const auto& info = header_of<xfrm_usersa_info>(m);
  EXPECT_EQ(info.id.daddr.a4, htonl(0x0a010002));
  EXPECT_EQ(info.saddr.a4, htonl(0x0a010001));
  EXPECT_EQ(info.id.spi, htonl(0x41020304));
  EXPECT_EQ(info.id.proto, IPPROTO_ESP);
  EXPECT_EQ(info.mode, XFRM_MODE_TRANSPORT);
  EXPECT_EQ(info.reqid, kOwner.reqid);
  EXPECT_EQ(info.lft.hard_packet_limit, XFRM_INF);
  EXPECT_TRUE(info.flags & XFRM_STATE_ESN);
  const std::string aead = attribute<xfrm_usersa_info>(m, XFRMA_ALG_AEAD);
  const auto algorithm = as<xfrm_algo_aead>(aead);
  EXPECT_STREQ(algorithm.alg_name, "rfc4106(gcm(aes))");
  EXPECT_EQ(algorithm.alg_key_len, 36u * 8);
  EXPECT_EQ(algorithm.alg_icv_len, 128u);
  EXPECT_EQ(aead.substr(sizeof(algorithm)), state.key);
  const std::string replay = attribute<xfrm_usersa_info>(m, XFRMA_REPLAY_ESN_VAL);
  const auto window = as<xfrm_replay_state_esn>(replay);
  EXPECT_EQ(window.replay_window, 1024u);
  EXPECT_EQ(replay.size(), sizeof(window) + window.bmp_len * 4);
  const auto encapsulation = as<xfrm_encap_tmpl>(attribute<xfrm_usersa_info>(m, XFRMA_ENCAP));
  EXPECT_EQ(encapsulation.encap_type, UDP_ENCAP_ESPINUDP);
  EXPECT_EQ(encapsulation.encap_dport, htons(4500));
}

TEST(EspWireTest, AStateGoesOnWithTheNumbersThatItHad) {
  EspNumbers numbers{(uint64_t{2} << 32) + 3, (uint64_t{4} << 32) + 5, {}};
  for (uint32_t word = 0; word < 32; ++word) numbers.window.push_back(word + 100);
  const EspState state{kA, std::string(36, 'k'), 0};
  const EspChange add{EspChange::Kind::kAddState, false, {kB, 300}, state, numbers};
  const std::string value =
      attribute<xfrm_usersa_info>(esp_message(add, kOwner), XFRMA_REPLAY_ESN_VAL);
  const auto esn = as<xfrm_replay_state_esn>(value);
  EXPECT_EQ(esn.oseq, 3u);
  EXPECT_EQ(esn.oseq_hi, 2u);
  EXPECT_EQ(esn.seq, 5u);
  EXPECT_EQ(esn.seq_hi, 4u);
  EXPECT_EQ(esn.bmp_len, 32u);
  EXPECT_EQ(read_replay(value), numbers);
  // Of a window that is not ours nothing is accepted again.
  EXPECT_EQ(read_replay(value.substr(0, value.size() - 4)).window,
            std::vector<uint32_t>(32, 0xffffffffu));
  EXPECT_EQ(read_replay(value.substr(0, 8)), EspNumbers());
}

TEST(EspWireTest, WithoutAPortNothingIsPutIntoUdp) {
  const EspState state{kA, std::string(36, 'k'), 0};
  EXPECT_EQ(attribute<xfrm_usersa_info>(esp_add_state({kB, 300}, state, 1), XFRMA_ENCAP), "");
}

TEST(EspWireTest, APolicyIsForMarkedVxlanToOnePeerAndRequiresItsState) {
  const Message m = esp_message({EspChange::Kind::kSetPolicy, false, {kB, 0x301}, {}}, kOwner);
  EXPECT_EQ(m.wire()->nlmsg_type, XFRM_MSG_UPDPOLICY);
  const auto& info = header_of<xfrm_userpolicy_info>(m);
  EXPECT_EQ(info.dir, XFRM_POLICY_OUT);
  EXPECT_EQ(info.action, XFRM_POLICY_ALLOW);
  EXPECT_EQ(info.sel.daddr.a4, htonl(0x0a010002));
  EXPECT_EQ(info.sel.prefixlen_d, 32);
  EXPECT_EQ(info.sel.saddr.a4, htonl(0x0a010001));
  EXPECT_EQ(info.sel.proto, IPPROTO_UDP);
  EXPECT_EQ(info.sel.dport, htons(4790));
  const auto through = as<xfrm_user_tmpl>(attribute<xfrm_userpolicy_info>(m, XFRMA_TMPL));
  EXPECT_EQ(through.id.spi, htonl(0x301));
  EXPECT_EQ(through.reqid, kOwner.reqid);
  EXPECT_EQ(through.optional, 0);
  const auto mark = as<xfrm_mark>(attribute<xfrm_userpolicy_info>(m, XFRMA_MARK));
  EXPECT_EQ(mark.v, kOwner.mark);
  EXPECT_EQ(mark.m, 0xffffffffu);
}

TEST(EspWireTest, WhatIsMarkedAndGoesElsewhereIsBlocked) {
  for (const bool v6 : {false, true}) {
    const Message m = esp_message({EspChange::Kind::kBlock, v6, {}, {}}, kOwner);
    const auto& info = header_of<xfrm_userpolicy_info>(m);
    EXPECT_EQ(info.action, XFRM_POLICY_BLOCK);
    EXPECT_EQ(info.sel.family, v6 ? AF_INET6 : AF_INET);
    EXPECT_EQ(info.sel.prefixlen_d, 0);
    EXPECT_EQ(info.sel.dport_mask, 0);
    EXPECT_GT(info.priority, 0u);
    EXPECT_EQ(as<xfrm_mark>(attribute<xfrm_userpolicy_info>(m, XFRMA_MARK)).v, kOwner.mark);
  }
}

TEST(EspWireTest, WhatIsGoneAlreadyNeedsNoDeleting) {
  const Message state = esp_message({EspChange::Kind::kDropState, false, {kB, 301}, {}}, kOwner);
  EXPECT_EQ(state.wire()->nlmsg_type, XFRM_MSG_DELSA);
  EXPECT_EQ(header_of<xfrm_usersa_id>(state).spi, htonl(301));
  EXPECT_TRUE(state.tolerated(ESRCH));
  const Message policy = esp_message({EspChange::Kind::kDropPolicy, false, {kB, 301}, {}}, kOwner);
  EXPECT_EQ(policy.wire()->nlmsg_type, XFRM_MSG_DELPOLICY);
  EXPECT_EQ(header_of<xfrm_userpolicy_id>(policy).sel.daddr.a4, htonl(0x0a010002));
  EXPECT_TRUE(policy.tolerated(ENOENT));
}

}  // namespace
}  // namespace muster::overlay
