#include "overlay/dataplane/vip/client_rules.h"

#include <algorithm>

#include "overlay/dataplane/vip/client_batch.h"

namespace muster::overlay {
namespace {

using What = VipStep::What;

// Attributes of libnftables in what a set or chain carries for it.
constexpr char kKeyTypeof = 3;
constexpr char kDataTypeof = 4;
constexpr char kChainComment = 0;
constexpr uint32_t kExpressionPayload = 7;
constexpr uint32_t kExpressionNumgen = 0x17;
constexpr size_t kCommentMax = 127;
// An attribute is of less than 64 KiB; an element takes 40 bytes at most.
constexpr size_t kElementsAtOnce = 1000;

std::string_view services(bool v6) {
  return v6 ? "services6" : "services4";
}
std::string_view vips(bool v6) {
  return v6 ? "vips6" : "vips4";
}

// ---------------------------------------------------------------- what nft shows

// "typeof numgen inc mod N : ip daddr"
std::string slots_userdata(bool v6, uint32_t count) {
  std::string numgen;
  nft_user(numgen, 0, uint32_t{NFT_NG_INCREMENTAL});
  nft_user(numgen, 1, count);
  nft_user(numgen, 2, uint32_t{0});  // offset
  std::string key;
  nft_user(key, 0, kExpressionNumgen);
  nft_user(key, 1, numgen);
  std::string field;
  nft_user(field, 0, uint32_t{v6 ? 13u : 12u});  // the protocol's number in libnftables
  nft_user(field, 1, uint32_t{v6 ? 9u : 12u});   // ... and that of its destination address
  std::string data;
  nft_user(data, 0, kExpressionPayload);
  nft_user(data, 1, field);
  std::string out;
  nft_user(out, kNftKeyByteOrder, kNftHostEndian);
  nft_user(out, kNftDataByteOrder, kNftBigEndian);
  nft_user(out, kKeyTypeof, key);
  nft_user(out, kDataTypeof, data);
  return out;
}

}  // namespace

std::string_view vip_rules_marker() {
  return "rules_1";
}

void VipTransaction::make_base() {
  make_table(vip_rules_marker());
  chain("output", "nat", -100);
  chain("guard", "filter", 0);
  for (const bool v6 : {false, true}) {
    set(services(v6), v6, NFT_DATA_VERDICT);
    set(vips(v6), v6);
  }
  for (const std::string_view name : {"output", "guard"}) {
    for (const int ping : {int{IPPROTO_ICMP}, int{IPPROTO_ICMPV6}}) {
      Expressions(rule(name))
          .meta_is(NFT_META_L4PROTO, static_cast<uint8_t>(ping))
          .verdict(NF_ACCEPT);
      wire_.end();
    }
  }
  for (const bool v6 : {false, true}) {
    Expressions(rule("output"))
        .family(v6)
        .address(v6, false, NFT_REG_1)
        .look_up(services(v6), NFT_REG_VERDICT);
    wire_.end();
  }
  guard_rules(vips(false), vips(true));
}

void VipTransaction::lead(const Ip& vip, const std::string* chain) {
  element(services(vip.v6), vip, chain != nullptr, [&] {
    if (chain == nullptr) return;
    const size_t data = wire_.nest(NFTA_SET_ELEM_DATA);
    Expressions::put_verdict(wire_, NFT_GOTO, *chain);
    wire_.close(data);
  });
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
      wire_.be32(NFTA_SET_KEY_TYPE, kNftInteger);
      wire_.be32(NFTA_SET_KEY_LEN, sizeof(uint32_t));
      wire_.be32(NFTA_SET_DATA_TYPE, v6 ? kNftIpv6 : kNftIpv4);
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
        nft_user(comment, kChainComment, shown);
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
    case What::kLead: lead(step.vip, &chain); break;
    case What::kUnlead: lead(step.vip, nullptr); break;
    case What::kGuard: element(vips(v6), step.vip, true, [] {}); break;
    case What::kUnguard: element(vips(v6), step.vip, false, [] {}); break;
  }
}

}  // namespace muster::overlay
