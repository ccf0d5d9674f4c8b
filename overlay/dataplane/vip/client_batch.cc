#include "overlay/dataplane/vip/client_batch.h"

#include <arpa/inet.h>
#include <linux/netfilter/nfnetlink.h>

namespace muster::overlay {

void nft_user(std::string& out, char type, std::string_view value) {
  out += type;
  out += static_cast<char>(value.size());
  out += value;
}

void nft_user(std::string& out, char type, uint32_t value) {
  nft_user(out, type, std::string_view(reinterpret_cast<const char*>(&value), sizeof(value)));
}

uint16_t nft_type(uint16_t message) {
  return static_cast<uint16_t>((NFNL_SUBSYS_NFTABLES << 8) | message);
}

nfgenmsg nft_inet() {
  nfgenmsg header{};
  header.nfgen_family = NFPROTO_INET;
  header.version = NFNETLINK_V0;
  return header;
}

Ip ip_of_wire(std::string_view bytes) {
  Ip ip{bytes.size() == 16, 0};
  for (const char byte : bytes) ip.value = (ip.value << 8) | static_cast<unsigned char>(byte);
  return ip;
}

NftBatch::NftBatch(uint32_t generation) {
  nfgenmsg header{};
  header.version = NFNETLINK_V0;
  header.res_id = htons(NFNL_SUBSYS_NFTABLES);
  wire_.begin(NFNL_MSG_BATCH_BEGIN, 0, header);
  if (generation != 0) wire_.be32(NFNL_BATCH_GENID, generation);
  wire_.end();
  whats_.emplace_back("change nftables");
}

void NftBatch::begin(uint16_t message, uint16_t flags, std::string what) {
  wire_.begin(nft_type(message), flags, nft_inet());
  whats_.push_back(std::move(what));
}

std::string NftBatch::what(uint32_t sequence) const {
  return sequence >= 1 && sequence <= whats_.size() ? whats_[sequence - 1] : "change nftables";
}

const Wire& NftBatch::finish() {
  wire_.ask_last();
  nfgenmsg header{};
  header.version = NFNETLINK_V0;
  header.res_id = htons(NFNL_SUBSYS_NFTABLES);
  wire_.begin(NFNL_MSG_BATCH_END, 0, header);
  wire_.end();
  whats_.emplace_back("change nftables");
  return wire_;
}

void NftBatch::drop_base() {
  // Made first, so that there is one to take away.
  begin(NFT_MSG_NEWTABLE, NLM_F_CREATE, "make table");
  wire_.text(NFTA_TABLE_NAME, kVipTable);
  wire_.end();
  begin(NFT_MSG_DELTABLE, 0, "remove table");
  wire_.text(NFTA_TABLE_NAME, kVipTable);
  wire_.end();
}

void NftBatch::make_table(std::string_view marker) {
  drop_base();
  begin(NFT_MSG_NEWTABLE, NLM_F_CREATE, "make table");
  wire_.text(NFTA_TABLE_NAME, kVipTable);
  wire_.end();
  chain(marker);
  chain("refuse");
  Expressions(rule("refuse")).counter();
  wire_.end();
  Expressions(rule("refuse")).meta_is(NFT_META_L4PROTO, IPPROTO_TCP).reject(NFT_REJECT_TCP_RST, 0);
  wire_.end();
  Expressions(rule("refuse")).reject(NFT_REJECT_ICMPX_UNREACH, NFT_REJECT_ICMPX_PORT_UNREACH);
  wire_.end();
}

void NftBatch::chain(std::string_view name, std::string_view type, int32_t priority,
                     nf_inet_hooks hook) {
  begin(NFT_MSG_NEWCHAIN, NLM_F_CREATE, "make chain");
  wire_.text(NFTA_CHAIN_TABLE, kVipTable);
  wire_.text(NFTA_CHAIN_NAME, name);
  if (!type.empty()) {
    wire_.text(NFTA_CHAIN_TYPE, type);
    const size_t nest = wire_.nest(NFTA_CHAIN_HOOK);
    wire_.be32(NFTA_HOOK_HOOKNUM, hook);
    wire_.be32(NFTA_HOOK_PRIORITY, static_cast<uint32_t>(priority));
    wire_.close(nest);
  }
  wire_.end();
}

void NftBatch::set(std::string_view name, bool v6, uint32_t data, uint32_t data_length) {
  begin(NFT_MSG_NEWSET, NLM_F_CREATE, fmt::format("make set {}", name));
  wire_.text(NFTA_SET_TABLE, kVipTable);
  wire_.text(NFTA_SET_NAME, name);
  wire_.be32(NFTA_SET_ID, ++sets_);
  wire_.be32(NFTA_SET_FLAGS, data != 0 ? NFT_SET_MAP : 0);
  wire_.be32(NFTA_SET_KEY_TYPE, v6 ? kNftIpv6 : kNftIpv4);
  wire_.be32(NFTA_SET_KEY_LEN, v6 ? 16 : 4);
  std::string userdata;
  nft_user(userdata, kNftKeyByteOrder, kNftBigEndian);
  if (data != 0) {
    wire_.be32(NFTA_SET_DATA_TYPE, data);
    wire_.be32(NFTA_SET_DATA_LEN, data_length);
    if (data_length != 0) nft_user(userdata, kNftDataByteOrder, kNftHostEndian);
  }
  wire_.put(NFTA_SET_USERDATA, userdata.data(), userdata.size());
  wire_.end();
}

Wire& NftBatch::rule(std::string_view chain) {
  begin(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, "add rule");
  wire_.text(NFTA_RULE_TABLE, kVipTable);
  wire_.text(NFTA_RULE_CHAIN, chain);
  return wire_;
}

void NftBatch::guard_rules(std::string_view vips4, std::string_view vips6) {
  for (const bool v6 : {false, true}) {
    Expressions(rule("guard"))
        .family(v6)
        .address(v6, false, NFT_REG_1)
        .look_up(v6 ? vips6 : vips4, -1)
        .verdict(NFT_GOTO, "refuse");
    wire_.end();
  }
}

void NftBatch::drop(uint16_t message, uint16_t name_attribute, const std::string& name) {
  begin(message, 0, "remove " + name);
  wire_.text(NFTA_CHAIN_TABLE, kVipTable);  // the table is attribute 1 of chains, rules and sets
  wire_.text(name_attribute, name);
  wire_.end();
}

}  // namespace muster::overlay
