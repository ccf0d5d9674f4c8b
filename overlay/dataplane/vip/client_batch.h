#pragma once

#include <endian.h>
#include <netinet/in.h>  // the kernel's headers must find it there

#include <linux/netfilter.h>
#include <linux/netfilter/nf_nat.h>
#include <linux/netfilter/nf_tables.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "overlay/dataplane/kernel/wire.h"
#include "overlay/dataplane/vip/client_wire.h"
#include "overlay/ipam/ip.h"

// For client_rules.cc, ipvs_rules.cc and client_listing.cc alone.
namespace muster::overlay {

inline constexpr std::string_view kVipTable = "muster_vip";

// Data types of libnftables: how sets are shown.
enum NftType : uint32_t {
  kNftInteger = 4,
  kNftIpv4 = 7,
  kNftIpv6 = 8,
  kNftMark = 19,
};
// Attributes of libnftables in what a set or chain carries for it.
inline constexpr char kNftKeyByteOrder = 0;
inline constexpr char kNftDataByteOrder = 1;
inline constexpr uint32_t kNftHostEndian = 1;
inline constexpr uint32_t kNftBigEndian = 2;
void nft_user(std::string& out, char type, std::string_view value);
void nft_user(std::string& out, char type, uint32_t value);

uint16_t nft_type(uint16_t message);
nfgenmsg nft_inet();
// From the bytes of an address in network order.
Ip ip_of_wire(std::string_view bytes);

// A transaction on table inet muster_vip being written.
class NftBatch {
 public:
  // `generation`: refused (ERESTART) unless the namespace's nftables are of this generation; 0 =
  // whatever they are.
  explicit NftBatch(uint32_t generation);

  void drop_base();
  // Closes it and asks for an answer.
  const Wire& finish();
  size_t size() const { return wire_.bytes().size(); }
  // In words, what message `sequence` does.
  std::string what(uint32_t sequence) const;

 protected:
  ~NftBatch() = default;

  void begin(uint16_t message, uint16_t flags, std::string what);
  // The table anew, with an empty chain of the name that tells what rules it holds, and chain
  // "refuse", which answers at once.
  void make_table(std::string_view marker);
  // Of a hook, if `type` is not empty.
  void chain(std::string_view name, std::string_view type = {}, int32_t priority = 0,
             nf_inet_hooks hook = NF_INET_LOCAL_OUT);
  // By address; a map if `data` is not 0: NFT_DATA_VERDICT or one of NftType with its length.
  void set(std::string_view name, bool v6, uint32_t data = 0, uint32_t data_length = 0);
  Wire& rule(std::string_view chain);
  // What is still addressed to what these sets hold is refused.
  void guard_rules(std::string_view vips4, std::string_view vips6);
  void drop(uint16_t message, uint16_t name_attribute, const std::string& name);
  // `data` writes what the map holds; may be empty.
  template <class Data>
  void element(std::string_view set, const Ip& vip, bool put, Data data) {
    begin(put ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM, put ? NLM_F_CREATE : 0,
          fmt::format("{} {} in {}", put ? "set" : "unset", vip.str(), set));
    wire_.text(NFTA_SET_ELEM_LIST_TABLE, kVipTable);
    wire_.text(NFTA_SET_ELEM_LIST_SET, set);
    const size_t list = wire_.nest(NFTA_SET_ELEM_LIST_ELEMENTS);
    const size_t item = wire_.nest(NFTA_LIST_ELEM);
    const size_t key = wire_.nest(NFTA_SET_ELEM_KEY);
    const std::string bytes = ip_bytes(vip);
    wire_.put(NFTA_DATA_VALUE, bytes.data(), bytes.size());
    wire_.close(key);
    data();
    wire_.close(item);
    wire_.close(list);
    wire_.end();
  }

  Wire wire_;
  std::vector<std::string> whats_;  // by sequence number, from 1

 private:
  uint32_t sets_ = 0;
};

// What a rule says, from its first expression to its last.
class Expressions {
 public:
  explicit Expressions(Wire& wire) : wire_(wire), list_(wire.nest(NFTA_RULE_EXPRESSIONS)) {}
  ~Expressions() { wire_.close(list_); }
  Expressions(const Expressions&) = delete;
  Expressions& operator=(const Expressions&) = delete;

  Expressions& meta_is(uint32_t key, uint8_t value) { return meta(key, value, NFT_CMP_EQ); }
  Expressions& family(bool v6) {
    return meta_is(NFT_META_NFPROTO, v6 ? NFPROTO_IPV6 : NFPROTO_IPV4);
  }
  Expressions& address(bool v6, bool source, uint32_t reg) {
    return expression("payload", [&] {
      wire_.be32(NFTA_PAYLOAD_DREG, reg);
      wire_.be32(NFTA_PAYLOAD_BASE, NFT_PAYLOAD_NETWORK_HEADER);
      wire_.be32(NFTA_PAYLOAD_OFFSET, source ? (v6 ? 8 : 12) : (v6 ? 24 : 16));
      wire_.be32(NFTA_PAYLOAD_LEN, v6 ? 16 : 4);
    });
  }
  // What stands in register 1. `into`: the register for what the map says, -1 for a set.
  Expressions& look_up(std::string_view set, int into) {
    return expression("lookup", [&] {
      wire_.be32(NFTA_LOOKUP_SREG, NFT_REG_1);
      if (into >= 0) wire_.be32(NFTA_LOOKUP_DREG, static_cast<uint32_t>(into));
      wire_.text(NFTA_LOOKUP_SET, set);
    });
  }
  Expressions& verdict(int32_t code, std::string_view chain = {}) {
    return expression("immediate", [&] {
      wire_.be32(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
      const size_t data = wire_.nest(NFTA_IMMEDIATE_DATA);
      put_verdict(wire_, code, chain);
      wire_.close(data);
    });
  }
  Expressions& load(const Ip& ip) {
    return expression("immediate", [&] {
      wire_.be32(NFTA_IMMEDIATE_DREG, NFT_REG_1);
      const std::string bytes = ip_bytes(ip);
      data(NFTA_IMMEDIATE_DATA, bytes.data(), bytes.size());
    });
  }
  Expressions& count_up(uint32_t modulus) {
    return expression("numgen", [&] {
      wire_.be32(NFTA_NG_DREG, NFT_REG_1);
      wire_.be32(NFTA_NG_MODULUS, modulus);
      wire_.be32(NFTA_NG_TYPE, NFT_NG_INCREMENTAL);
      wire_.be32(NFTA_NG_OFFSET, 0);
    });
  }
  Expressions& hash_source(bool v6, uint32_t modulus) {
    return family(v6).address(v6, true, NFT_REG_2).expression("hash", [&] {
      wire_.be32(NFTA_HASH_SREG, NFT_REG_2);
      wire_.be32(NFTA_HASH_DREG, NFT_REG_1);
      wire_.be32(NFTA_HASH_LEN, v6 ? 16 : 4);
      wire_.be32(NFTA_HASH_MODULUS, modulus);
      wire_.be32(NFTA_HASH_SEED, 0x4d);
      wire_.be32(NFTA_HASH_OFFSET, 0);
      wire_.be32(NFTA_HASH_TYPE, NFT_HASH_JENKINS);
    });
  }
  Expressions& dnat(bool v6) {
    return expression("nat", [&] {
      wire_.be32(NFTA_NAT_TYPE, NFT_NAT_DNAT);
      wire_.be32(NFTA_NAT_FAMILY, v6 ? NFPROTO_IPV6 : NFPROTO_IPV4);
      wire_.be32(NFTA_NAT_REG_ADDR_MIN, NFT_REG_1);
    });
  }
  Expressions& reject(uint32_t type, uint8_t code) {
    return expression("reject", [&] {
      wire_.be32(NFTA_REJECT_TYPE, type);
      wire_.u8(NFTA_REJECT_ICMP_CODE, code);
    });
  }
  Expressions& l4proto_is_not(uint8_t protocol) {
    return meta(NFT_META_L4PROTO, protocol, NFT_CMP_NEQ);
  }
  // The packet's mark, from register 1.
  Expressions& set_mark() {
    return expression("meta", [&] {
      wire_.be32(NFTA_META_KEY, NFT_META_MARK);
      wire_.be32(NFTA_META_SREG, NFT_REG_1);
    });
  }
  Expressions& counter() {
    return expression("counter", [] {});
  }
  // Whether the packet's flow has had an answer, or its first packet is on its way. The kernel's
  // NF_CT_STATE_BIT() of IP_CT_ESTABLISHED and of IP_CT_NEW.
  enum CtState : uint32_t { kEstablished = 1u << 1, kNew = 1u << 3 };
  Expressions& flow_is(CtState state) {
    const uint32_t mask = state, zero = 0;
    return expression("ct",
                      [&] {
                        wire_.be32(NFTA_CT_KEY, NFT_CT_STATE);
                        wire_.be32(NFTA_CT_DREG, NFT_REG_1);
                      })
        .expression("bitwise",
                    [&] {
                      wire_.be32(NFTA_BITWISE_SREG, NFT_REG_1);
                      wire_.be32(NFTA_BITWISE_DREG, NFT_REG_1);
                      wire_.be32(NFTA_BITWISE_LEN, sizeof(mask));
                      data(NFTA_BITWISE_MASK, &mask, sizeof(mask));
                      data(NFTA_BITWISE_XOR, &zero, sizeof(zero));
                    })
        .expression("cmp", [&] {
          wire_.be32(NFTA_CMP_SREG, NFT_REG_1);
          wire_.be32(NFTA_CMP_OP, NFT_CMP_NEQ);
          data(NFTA_CMP_DATA, &zero, sizeof(zero));
        });
  }
  Expressions& at_most(uint64_t per_second, uint32_t burst) {
    const uint64_t rate = htobe64(per_second), unit = htobe64(1);
    return expression("limit", [&] {
      wire_.put(NFTA_LIMIT_RATE, &rate, sizeof(rate));
      wire_.put(NFTA_LIMIT_UNIT, &unit, sizeof(unit));
      wire_.be32(NFTA_LIMIT_BURST, burst);
      wire_.be32(NFTA_LIMIT_TYPE, NFT_LIMIT_PKTS);
    });
  }
  // Tells whoever listens for this group (NFLOG), at once, of the packet's first `bytes`.
  Expressions& tell(uint16_t group, uint32_t bytes) {
    const uint16_t wire_group = htons(group), at_once = htons(1);
    return expression("log", [&] {
      wire_.put(NFTA_LOG_GROUP, &wire_group, sizeof(wire_group));
      wire_.be32(NFTA_LOG_SNAPLEN, bytes);
      wire_.put(NFTA_LOG_QTHRESHOLD, &at_once, sizeof(at_once));
    });
  }

  static void put_verdict(Wire& wire, int32_t code, std::string_view chain) {
    const size_t verdict = wire.nest(NFTA_DATA_VERDICT);
    wire.be32(NFTA_VERDICT_CODE, static_cast<uint32_t>(code));
    if (!chain.empty()) wire.text(NFTA_VERDICT_CHAIN, chain);
    wire.close(verdict);
  }

 private:
  Expressions& meta(uint32_t key, uint8_t value, uint32_t comparison) {
    return expression("meta",
                      [&] {
                        wire_.be32(NFTA_META_KEY, key);
                        wire_.be32(NFTA_META_DREG, NFT_REG_1);
                      })
        .expression("cmp", [&] {
          wire_.be32(NFTA_CMP_SREG, NFT_REG_1);
          wire_.be32(NFTA_CMP_OP, comparison);
          data(NFTA_CMP_DATA, &value, sizeof(value));
        });
  }
  void data(uint16_t attribute, const void* value, size_t size) {
    const size_t nest = wire_.nest(attribute);
    wire_.put(NFTA_DATA_VALUE, value, size);
    wire_.close(nest);
  }
  template <class Body>
  Expressions& expression(std::string_view name, Body body) {
    const size_t element = wire_.nest(NFTA_LIST_ELEM);
    wire_.text(NFTA_EXPR_NAME, name);
    const size_t data = wire_.nest(NFTA_EXPR_DATA);
    body();
    wire_.close(data);
    wire_.close(element);
    return *this;
  }

  Wire& wire_;
  size_t list_;
};

}  // namespace muster::overlay
