#include "overlay/dataplane/vip/ipvs_rules.h"

#include <cstring>
#include <set>
#include <string>

#include "base/check.h"
#include "overlay/dataplane/vip/client_listing.h"

namespace muster::overlay {
namespace {

using What = IpvsStep::What;

// After connection tracking, before IPVS (-98), and before -100, where addresses are translated.
constexpr int32_t kMangle = -150;
// Where sources are translated, after IPVS.
constexpr int32_t kSourceNat = 100;

struct Names {
  const char* vips;
  const char* marks;
  const char* flows;
  const char* datagrams;
  const char* unused;
};
constexpr Names kNames[] = {{"vips4", "marks4", "flows4", "datagrams4", "unused4"},
                            {"vips6", "marks6", "flows6", "datagrams6", "unused6"}};
const Names& names(bool v6) {
  return kNames[v6 ? 1 : 0];
}

}  // namespace

std::string_view ipvs_rules_marker() {
  return "ipvs_1";
}

void IpvsTransaction::make_base(bool watch) {
  make_table(ipvs_rules_marker());
  if (watch) chain("fresh");
  chain("marking", "filter", kMangle);
  chain("guard", "filter", 0);
  chain("unique", "nat", kSourceNat, NF_INET_POST_ROUTING);
  for (const bool v6 : {false, true}) {
    set(names(v6).vips, v6);
    for (const char* name : {names(v6).marks, names(v6).flows, names(v6).datagrams}) {
      set(name, v6, kNftMark, sizeof(uint32_t));
    }
    if (!watch) continue;
    set(names(v6).unused, v6);
    Expressions(rule("fresh"))
        .family(v6)
        .address(v6, false, NFT_REG_1)
        .look_up(names(v6).unused, -1)
        .at_most(kFirstUsesPerSecond, kFirstUsesAtOnce)
        .tell(kFirstUseGroup, kFirstUseBytes);
    wire_.end();
  }
  // Most packets there are: IPVS finds the flow by itself. (Datagrams may need a mark again, when
  // their backend was taken away.)
  Expressions(rule("marking"))
      .meta_is(NFT_META_L4PROTO, IPPROTO_TCP)
      .flow_is(Expressions::kEstablished)
      .verdict(NF_ACCEPT);
  wire_.end();
  for (const std::string_view name : {"marking", "guard"}) {
    for (const int ping : {int{IPPROTO_ICMP}, int{IPPROTO_ICMPV6}}) {
      Expressions(rule(name))
          .meta_is(NFT_META_L4PROTO, static_cast<uint8_t>(ping))
          .verdict(NF_ACCEPT);
      wire_.end();
    }
  }
  if (watch) {
    Expressions(rule("marking")).flow_is(Expressions::kNew).verdict(NFT_JUMP, "fresh");
    wire_.end();
  }
  for (const bool datagrams : {false, true}) {
    for (const bool v6 : {false, true}) {
      {
        Expressions list(rule("marking"));
        datagrams ? list.meta_is(NFT_META_L4PROTO, IPPROTO_UDP) : list.l4proto_is_not(IPPROTO_UDP);
        list.family(v6)
            .address(v6, false, NFT_REG_1)
            .look_up(datagrams ? names(v6).datagrams : names(v6).flows, NFT_REG_1)
            .set_mark();
      }
      wire_.end();
    }
  }
  guard_rules(names(false).vips, names(true).vips);
}

void IpvsTransaction::add(const IpvsStep& step) {
  const bool put =
      step.what == What::kGuard || step.what == What::kLead || step.what == What::kWatch;
  const bool guard = step.what == What::kGuard || step.what == What::kUnguard;
  const bool watch = step.what == What::kWatch || step.what == What::kUnwatch;
  MUSTER_CHECK(put || guard || watch || step.what == What::kUnlead,
               "a step of IPVS is none of nftables");
  const Names& of = names(step.v6);
  if (watch) return element(of.unused, step.vip, put, [] {});
  if (guard) element(of.vips, step.vip, put, [] {});
  const char* const half = (step.mark & 1) != 0 ? of.datagrams : of.flows;
  element(guard ? of.marks : half, step.vip, put, [&] {
    if (!put) return;
    const size_t data = wire_.nest(NFTA_SET_ELEM_DATA);
    wire_.u32(NFTA_DATA_VALUE, step.mark);
    wire_.close(data);
  });
}

Result<IpvsRules> list_ipvs_rules(WireSocket& socket, bool watch) {
  IpvsRules out;
  std::map<std::string, size_t> rules;  // by chain
  std::set<std::string> sets;
  MUSTER_TRY(list_nft(socket, NFT_MSG_GETCHAIN, false, [&](std::string_view attributes) {
    rules[std::string(text_of(find_attribute(attributes, NFTA_CHAIN_NAME)))];
  }));
  if (!rules.contains(std::string(ipvs_rules_marker()))) return out;
  const bool has_unique = rules.contains("unique");
  MUSTER_TRY(list_nft(socket, NFT_MSG_GETSET, true, [&](std::string_view attributes) {
    sets.emplace(text_of(find_attribute(attributes, NFTA_SET_NAME)));
  }));
  MUSTER_TRY(list_nft(socket, NFT_MSG_GETRULE, true, [&](std::string_view attributes) {
    ++rules[std::string(text_of(find_attribute(attributes, NFTA_RULE_CHAIN)))];
  }));
  out.base_whole = sets.size() == (watch ? 10 : 8) && rules["marking"] == (watch ? 8 : 7) &&
                   rules["fresh"] == (watch ? 2 : 0) && rules["guard"] == 4 &&
                   rules["refuse"] == 3 && has_unique;
  for (const bool v6 : {false, true}) {
    const auto read = [&](const char* set, std::map<Ip, uint32_t>& into) {
      if (!sets.contains(set)) return ok_status();
      return list_elements(socket, set, [&](std::string_view key, std::string_view data) {
        const std::string_view value = find_attribute(data, NFTA_DATA_VALUE);
        uint32_t mark = 0;
        if (value.size() == sizeof(mark)) std::memcpy(&mark, value.data(), sizeof(mark));
        into[ip_of_wire(key)] = mark;
      });
    };
    MUSTER_TRY(read(names(v6).marks, out.marks));
    std::map<Ip, uint32_t> guarded;
    MUSTER_TRY(read(names(v6).vips, guarded));
    for (const auto& [vip, none] : guarded) {
      out.base_whole = out.base_whole && out.marks.contains(vip);
    }
    for (const auto& [vip, mark] : out.marks) {
      out.base_whole = out.base_whole && (vip.v6 != v6 || guarded.contains(vip));
    }
    MUSTER_TRY(read(names(v6).flows, out.flows));
    MUSTER_TRY(read(names(v6).datagrams, out.datagrams));
    std::map<Ip, uint32_t> unused;
    MUSTER_TRY(read(names(v6).unused, unused));
    for (const auto& [vip, none] : unused) out.watched.insert(vip);
  }
  return out;
}

}  // namespace muster::overlay
