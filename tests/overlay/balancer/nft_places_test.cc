// Ports bound to a place of the host, and those that hide their clients.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "overlay/balancer/nft_plan.h"

namespace muster::overlay {
namespace {

using testing::HasSubstr;
using testing::Not;

Frontend frontend(const std::string& bind, bool masquerade = false) {
  Frontend out;
  out.key = {v1::PortConfig::TCP, 80, bind};
  out.target_port = 8080;
  out.backends = {"10.0.0.5"};
  out.masquerade = masquerade;
  return out;
}

NftPlan plan(const NftState& now, const std::vector<Frontend>& wanted) {
  auto out = plan_nft("t", now, wanted);
  EXPECT_TRUE(out);
  return out ? *std::move(out) : NftPlan();
}

TEST(NftPlaces, EachIsDispatchedByItsOwnMap) {
  const struct {
    const char *bind, *element, *hidden;
  } cases[] = {
      {"", "add element inet t ports { tcp . 80 : goto c_tcp_80_m_0 }",
       "add element inet t masquerade_ports { tcp . 80 }"},
      {"192.0.2.1", "add element inet t ports_at4 { 192.0.2.1 . tcp . 80 : goto c_tcp_80_x",
       "add element inet t masquerade_at4 { 192.0.2.1 . tcp . 80 }"},
      {"fd00::1", "add element inet t ports_at6 { fd00::1 . tcp . 80 : goto c_tcp_80_x",
       "add element inet t masquerade_at6 { fd00::1 . tcp . 80 }"},
      {"eth1", "add element inet t ports_in { \"eth1\" . tcp . 80 : goto c_tcp_80_x65746831_m_0 }",
       "add element inet t masquerade_in { \"eth1\" . tcp . 80 }"},
  };
  for (const auto& c : cases) {
    const NftPlan made = plan({}, {frontend(c.bind, true)});
    EXPECT_THAT(made.commands, HasSubstr(c.element)) << c.bind;
    EXPECT_THAT(made.commands, HasSubstr(c.hidden)) << c.bind;
    EXPECT_THAT(plan({}, {frontend(c.bind)}).commands, Not(HasSubstr("masquerade"))) << c.bind;
    const NftPlan gone = plan(made.next, {});
    std::string removal = c.hidden;
    removal.replace(0, 3, "delete");
    EXPECT_THAT(gone.commands, HasSubstr(removal)) << c.bind;
  }
}

TEST(NftPlaces, AnotherChoiceOfTheClientsAddressIsAnotherChainAndRemovesNoBackend) {
  const NftState shown = plan({}, {frontend("")}).next;
  const NftPlan hidden = plan(shown, {frontend("", true)});
  EXPECT_THAT(hidden.commands,
              HasSubstr("delete element inet t ports { tcp . 80 : goto c_tcp_80_0 }"));
  EXPECT_THAT(hidden.commands,
              HasSubstr("add element inet t ports { tcp . 80 : goto c_tcp_80_m_1 }"));
  EXPECT_TRUE(hidden.removed.empty()) << "flows that run stay";
  EXPECT_EQ(plan(hidden.next, {frontend("", true)}).next.frontends, hidden.next.frontends);
  EXPECT_THAT(plan(hidden.next, {frontend("")}).commands,
              HasSubstr("delete element inet t masquerade_ports { tcp . 80 }"));
}

TEST(NftPlaces, OneNumberAtSeveralPlaces) {
  const NftPlan made = plan({}, {frontend("192.0.2.1"), frontend("192.0.2.2", true)});
  EXPECT_EQ(made.next.frontends.size(), 2u);
  const NftPlan less = plan(made.next, {frontend("192.0.2.2", true)});
  EXPECT_THAT(less.commands, HasSubstr("delete element inet t ports_at4 { 192.0.2.1 . tcp . 80"));
  EXPECT_THAT(less.commands, Not(HasSubstr("192.0.2.2")));
}

TEST(NftPlaces, NamesAreReadBack) {
  const std::string chain = "c_tcp_80_x65746831_m_2";
  const std::string listing =
      "{\"nftables\": [{\"map\": {\"name\": \"ports_in\", \"elem\": [[{\"concat\": [\"eth1\", "
      "\"tcp\", 80]}, {\"goto\": {\"target\": \"" +
      chain + "\"}}]]}}, {\"chain\": {\"name\": \"" + chain +
      "\"}}, {\"chain\": {\"name\": \"c_tcp_80_xzz_0\"}}]}";
  const auto state = parse_nft(listing);
  ASSERT_TRUE(state);
  ASSERT_EQ(state->frontends.size(), 1u);
  const auto& [key, found] = *state->frontends.begin();
  EXPECT_EQ(key, (FrontendKey{v1::PortConfig::TCP, 80, "eth1"}));
  EXPECT_TRUE(found.masquerade);
  EXPECT_EQ(found.generation, 2u);
  EXPECT_TRUE(state->dead_chains.empty()) << "what is not of our naming is not ours";
}

}  // namespace
}  // namespace muster::overlay
