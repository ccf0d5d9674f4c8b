#include "overlay/dataplane/client_rules.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_nat.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include <algorithm>

#include "overlay/dataplane/wire.h"

namespace muster::overlay {
namespace {

using What = VipStep::What;

// Data types of libnftables: how sets are shown.
constexpr uint32_t kTypeInteger = 4;
constexpr uint32_t kTypeIpv4 = 7;
constexpr uint32_t kTypeIpv6 = 8;
// Attributes of libnftables in what a set or chain carries for it.
constexpr char kKeyByteOrder = 0;
constexpr char kDataByteOrder = 1;
constexpr char kKeyTypeof = 3;
constexpr char kDataTypeof = 4;
constexpr char kChainComment = 0;
constexpr uint32_t kHostEndian = 1;
constexpr uint32_t kBigEndian = 2;
constexpr uint32_t kExpressionPayload = 7;
constexpr uint32_t kExpressionNumgen = 0x17;
constexpr uint32_t kHashSeed = 0x4d;
constexpr size_t kCommentMax = 127;
// An attribute is of less than 64 KiB; an element takes 40 bytes at most.
constexpr size_t kElementsAtOnce = 1000;

uint16_t nft_type(uint16_t message) {
  return static_cast<uint16_t>((NFNL_SUBSYS_NFTABLES << 8) | message);
}

nfgenmsg inet() {
  nfgenmsg header{};
  header.nfgen_family = NFPROTO_INET;
  header.version = NFNETLINK_V0;
  return header;
}

std::string_view services(bool v6) {
  return v6 ? "services6" : "services4";
}
std::string_view vips(bool v6) {
  return v6 ? "vips6" : "vips4";
}

// ---------------------------------------------------------------- what nft shows

void user(std::string& out, char type, std::string_view value) {
  out += type;
  out += static_cast<char>(value.size());
  out += value;
}
void user(std::string& out, char type, uint32_t value) {
  user(out, type, std::string_view(reinterpret_cast<const char*>(&value), sizeof(value)));
}

// "typeof numgen inc mod N : ip daddr"
std::string slots_userdata(bool v6, uint32_t count) {
  std::string numgen;
  user(numgen, 0, uint32_t{NFT_NG_INCREMENTAL});
  user(numgen, 1, count);
  user(numgen, 2, uint32_t{0});  // offset
  std::string key;
  user(key, 0, kExpressionNumgen);
  user(key, 1, numgen);
  std::string field;
  user(field, 0, uint32_t{v6 ? 13u : 12u});  // the protocol's number in libnftables
  user(field, 1, uint32_t{v6 ? 9u : 12u});   // ... and that of its destination address
  std::string data;
  user(data, 0, kExpressionPayload);
  user(data, 1, field);
  std::string out;
  user(out, kKeyByteOrder, kHostEndian);
  user(out, kDataByteOrder, kBigEndian);
  user(out, kKeyTypeof, key);
  user(out, kDataTypeof, data);
  return out;
}

// ---------------------------------------------------------------- expressions

class Expressions {
 public:
  explicit Expressions(Wire& wire) : wire_(wire), list_(wire.nest(NFTA_RULE_EXPRESSIONS)) {}
  ~Expressions() { wire_.close(list_); }
  Expressions(const Expressions&) = delete;
  Expressions& operator=(const Expressions&) = delete;

  Expressions& meta_is(uint32_t key, uint8_t value) {
    return expression("meta",
                      [&] {
                        wire_.be32(NFTA_META_KEY, key);
                        wire_.be32(NFTA_META_DREG, NFT_REG_1);
                      })
        .expression("cmp", [&] {
          wire_.be32(NFTA_CMP_SREG, NFT_REG_1);
          wire_.be32(NFTA_CMP_OP, NFT_CMP_EQ);
          const size_t data = wire_.nest(NFTA_CMP_DATA);
          wire_.put(NFTA_DATA_VALUE, &value, sizeof(value));
          wire_.close(data);
        });
  }
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
  // `into`: the register for what the map says, -1 for a set.
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
      const size_t data = wire_.nest(NFTA_IMMEDIATE_DATA);
      const std::string bytes = ip_bytes(ip);
      wire_.put(NFTA_DATA_VALUE, bytes.data(), bytes.size());
      wire_.close(data);
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
      wire_.be32(NFTA_HASH_SEED, kHashSeed);
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
  Expressions& counter() {
    return expression("counter", [] {});
  }

  static void put_verdict(Wire& wire, int32_t code, std::string_view chain) {
    const size_t verdict = wire.nest(NFTA_DATA_VERDICT);
    wire.be32(NFTA_VERDICT_CODE, static_cast<uint32_t>(code));
    if (!chain.empty()) wire.text(NFTA_VERDICT_CHAIN, chain);
    wire.close(verdict);
  }

 private:
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

}  // namespace

std::string_view vip_rules_marker() {
  return "rules_1";
}

Ip ip_of_wire(std::string_view bytes) {
  Ip ip{bytes.size() == 16, 0};
  for (const char byte : bytes) ip.value = (ip.value << 8) | static_cast<unsigned char>(byte);
  return ip;
}

// ---------------------------------------------------------------- writing

VipTransaction::VipTransaction(uint32_t generation, uint32_t origin) : origin_(origin) {
  nfgenmsg header{};
  header.version = NFNETLINK_V0;
  header.res_id = htons(NFNL_SUBSYS_NFTABLES);
  wire_.begin(NFNL_MSG_BATCH_BEGIN, 0, header);
  if (generation != 0) wire_.be32(NFNL_BATCH_GENID, generation);
  wire_.end();
  whats_.emplace_back("change nftables");
}

void VipTransaction::begin(uint16_t message, uint16_t flags, std::string what) {
  wire_.begin(nft_type(message), flags, inet());
  whats_.push_back(std::move(what));
}

std::string VipTransaction::what(uint32_t sequence) const {
  return sequence >= 1 && sequence <= whats_.size() ? whats_[sequence - 1] : "change nftables";
}

const Wire& VipTransaction::finish() {
  wire_.ask_last();
  nfgenmsg header{};
  header.version = NFNETLINK_V0;
  header.res_id = htons(NFNL_SUBSYS_NFTABLES);
  wire_.begin(NFNL_MSG_BATCH_END, 0, header);
  wire_.end();
  whats_.emplace_back("change nftables");
  return wire_;
}

void VipTransaction::drop_base() {
  // Made first, so that there is one to take away.
  begin(NFT_MSG_NEWTABLE, NLM_F_CREATE, "make table");
  wire_.text(NFTA_TABLE_NAME, kVipTable);
  wire_.end();
  begin(NFT_MSG_DELTABLE, 0, "remove table");
  wire_.text(NFTA_TABLE_NAME, kVipTable);
  wire_.end();
}

void VipTransaction::make_base() {
  drop_base();
  begin(NFT_MSG_NEWTABLE, NLM_F_CREATE, "make table");
  wire_.text(NFTA_TABLE_NAME, kVipTable);
  wire_.end();
  const auto chain = [&](std::string_view name, std::string_view type, int32_t priority) {
    begin(NFT_MSG_NEWCHAIN, NLM_F_CREATE, "make chain");
    wire_.text(NFTA_CHAIN_TABLE, kVipTable);
    wire_.text(NFTA_CHAIN_NAME, name);
    if (!type.empty()) {
      wire_.text(NFTA_CHAIN_TYPE, type);
      const size_t hook = wire_.nest(NFTA_CHAIN_HOOK);
      wire_.be32(NFTA_HOOK_HOOKNUM, NF_INET_LOCAL_OUT);
      wire_.be32(NFTA_HOOK_PRIORITY, static_cast<uint32_t>(priority));
      wire_.close(hook);
    }
    wire_.end();
  };
  chain(vip_rules_marker(), {}, 0);
  chain("refuse", {}, 0);
  chain("output", "nat", -100);
  chain("guard", "filter", 0);
  uint32_t id = 0;
  const auto set = [&](std::string_view name, bool v6, bool map) {
    begin(NFT_MSG_NEWSET, NLM_F_CREATE, fmt::format("make set {}", name));
    wire_.text(NFTA_SET_TABLE, kVipTable);
    wire_.text(NFTA_SET_NAME, name);
    wire_.be32(NFTA_SET_ID, ++id);
    wire_.be32(NFTA_SET_FLAGS, map ? NFT_SET_MAP : 0);
    wire_.be32(NFTA_SET_KEY_TYPE, v6 ? kTypeIpv6 : kTypeIpv4);
    wire_.be32(NFTA_SET_KEY_LEN, v6 ? 16 : 4);
    if (map) {
      wire_.be32(NFTA_SET_DATA_TYPE, NFT_DATA_VERDICT);
      wire_.be32(NFTA_SET_DATA_LEN, 0);
    }
    std::string userdata;
    user(userdata, kKeyByteOrder, kBigEndian);
    wire_.put(NFTA_SET_USERDATA, userdata.data(), userdata.size());
    wire_.end();
  };
  for (const bool v6 : {false, true}) {
    set(services(v6), v6, true);
    set(vips(v6), v6, false);
  }
  make_base_rules();
}

void VipTransaction::make_base_rules() {
  const auto rule = [&](std::string_view name) -> Wire& {
    begin(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, "add rule");
    wire_.text(NFTA_RULE_TABLE, kVipTable);
    wire_.text(NFTA_RULE_CHAIN, name);
    return wire_;
  };
  Expressions(rule("refuse")).counter();
  wire_.end();
  Expressions(rule("refuse")).meta_is(NFT_META_L4PROTO, IPPROTO_TCP).reject(NFT_REJECT_TCP_RST, 0);
  wire_.end();
  Expressions(rule("refuse")).reject(NFT_REJECT_ICMPX_UNREACH, NFT_REJECT_ICMPX_PORT_UNREACH);
  wire_.end();
  for (const std::string_view name : {"output", "guard"}) {
    for (const int ping : {int{IPPROTO_ICMP}, int{IPPROTO_ICMPV6}}) {
      Expressions(rule(name))
          .meta_is(NFT_META_L4PROTO, static_cast<uint8_t>(ping))
          .verdict(NF_ACCEPT);
      wire_.end();
    }
    for (const bool v6 : {false, true}) {
      {
        Expressions list(rule(name));
        list.family(v6).address(v6, false, NFT_REG_1);
        if (name == "output") {
          list.look_up(services(v6), NFT_REG_VERDICT);
        } else {
          list.look_up(vips(v6), -1).verdict(NFT_GOTO, "refuse");
        }
      }
      wire_.end();
    }
  }
}

void VipTransaction::drop(uint16_t message, uint16_t name_attribute, const std::string& name) {
  begin(message, 0, "remove " + name);
  wire_.text(NFTA_CHAIN_TABLE, kVipTable);  // the table is attribute 1 of chains, rules and sets
  wire_.text(name_attribute, name);
  wire_.end();
}

void VipTransaction::element(std::string_view set, const Ip& vip, const std::string* chain,
                             bool put) {
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
  if (chain != nullptr) {
    const size_t data = wire_.nest(NFTA_SET_ELEM_DATA);
    Expressions::put_verdict(wire_, NFT_GOTO, *chain);
    wire_.close(data);
  }
  wire_.close(item);
  wire_.close(list);
  wire_.end();
}

void VipTransaction::slots_of(const VipStep& step, bool put) {
  const auto count = static_cast<uint32_t>(step.spread->slots.size());
  const std::string map = vip_map(step.vip, step.generation);
  for (size_t from = 0; from < step.slots.size(); from += kElementsAtOnce) {
    begin(put ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM, put ? NLM_F_CREATE : 0,
          "change slots of " + map);
    wire_.text(NFTA_SET_ELEM_LIST_TABLE, kVipTable);
    wire_.text(NFTA_SET_ELEM_LIST_SET, map);
    const size_t list = wire_.nest(NFTA_SET_ELEM_LIST_ELEMENTS);
    const size_t to = std::min(step.slots.size(), from + kElementsAtOnce);
    for (size_t i = from; i < to; ++i) {
      const size_t item = wire_.nest(NFTA_LIST_ELEM);
      const size_t key = wire_.nest(NFTA_SET_ELEM_KEY);
      wire_.u32(NFTA_DATA_VALUE, (step.slots[i].first + origin_) % count);
      wire_.close(key);
      if (put) {
        const size_t data = wire_.nest(NFTA_SET_ELEM_DATA);
        const std::string bytes = ip_bytes(step.slots[i].second);
        wire_.put(NFTA_DATA_VALUE, bytes.data(), bytes.size());
        wire_.close(data);
      }
      wire_.close(item);
    }
    wire_.close(list);
    wire_.end();
  }
}

void VipTransaction::rules(const VipStep& step) {
  const std::string chain = vip_chain(step.vip, step.generation);
  const auto count = static_cast<uint32_t>(step.spread->slots.size());
  const bool v6 = step.vip.v6;
  for (const bool plain : {false, true}) {
    begin(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, "add rule to " + chain);
    wire_.text(NFTA_RULE_TABLE, kVipTable);
    wire_.text(NFTA_RULE_CHAIN, chain);
    {
      Expressions list(wire_);
      if (plain) {
        list.load(step.spread->fallback);
      } else {
        step.spread->by_source ? list.hash_source(v6, count) : list.count_up(count);
        list.look_up(vip_map(step.vip, step.generation), NFT_REG_1);
      }
      list.dnat(v6);
    }
    wire_.end();
  }
}

void VipTransaction::add(const VipStep& step) {
  const std::string chain = vip_chain(step.vip, step.generation);
  const bool v6 = step.vip.v6;
  switch (step.what) {
    case What::kDropChain:
      drop(NFT_MSG_DELRULE, NFTA_RULE_CHAIN, step.name);
      drop(NFT_MSG_DELCHAIN, NFTA_CHAIN_NAME, step.name);
      break;
    case What::kDropMap: drop(NFT_MSG_DELSET, NFTA_SET_NAME, step.name); break;
    case What::kMakeMap: {
      const auto count = static_cast<uint32_t>(step.spread->slots.size());
      const std::string map = vip_map(step.vip, step.generation);
      begin(NFT_MSG_NEWSET, NLM_F_CREATE | NLM_F_EXCL, "make map " + map);
      wire_.text(NFTA_SET_TABLE, kVipTable);
      wire_.text(NFTA_SET_NAME, map);
      wire_.be32(NFTA_SET_ID, static_cast<uint32_t>(whats_.size()));
      wire_.be32(NFTA_SET_FLAGS, NFT_SET_MAP);
      wire_.be32(NFTA_SET_KEY_TYPE, kTypeInteger);
      wire_.be32(NFTA_SET_KEY_LEN, sizeof(uint32_t));
      wire_.be32(NFTA_SET_DATA_TYPE, v6 ? kTypeIpv6 : kTypeIpv4);
      wire_.be32(NFTA_SET_DATA_LEN, v6 ? 16 : 4);
      const size_t shape = wire_.nest(NFTA_SET_DESC);
      wire_.be32(NFTA_SET_DESC_SIZE, count);
      wire_.close(shape);
      const std::string userdata = slots_userdata(v6, count);
      wire_.put(NFTA_SET_USERDATA, userdata.data(), userdata.size());
      wire_.end();
      VipStep all = step;
      for (uint32_t i = 0; i < count; ++i) all.slots.emplace_back(i, step.spread->slots[i]);
      slots_of(all, true);
      break;
    }
    case What::kMakeChain: {
      begin(NFT_MSG_NEWCHAIN, NLM_F_CREATE | NLM_F_EXCL, "make chain " + chain);
      wire_.text(NFTA_CHAIN_TABLE, kVipTable);
      wire_.text(NFTA_CHAIN_NAME, chain);
      if (!step.name.empty()) {
        std::string comment;
        std::string shown = step.name.substr(0, kCommentMax);
        shown += '\0';
        user(comment, kChainComment, shown);
        wire_.put(NFTA_CHAIN_USERDATA, comment.data(), comment.size());
      }
      wire_.end();
      rules(step);
      break;
    }
    case What::kSetRules:
      drop(NFT_MSG_DELRULE, NFTA_RULE_CHAIN, chain);
      rules(step);
      break;
    case What::kDeleteSlots: slots_of(step, false); break;
    case What::kAddSlots: slots_of(step, true); break;
    case What::kLead: element(services(v6), step.vip, &chain, true); break;
    case What::kUnlead: element(services(v6), step.vip, nullptr, false); break;
    case What::kGuard: element(vips(v6), step.vip, nullptr, true); break;
    case What::kUnguard: element(vips(v6), step.vip, nullptr, false); break;
  }
}

}  // namespace muster::overlay
