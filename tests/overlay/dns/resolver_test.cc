#include "overlay/dns/resolver.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <set>

#include "tests/overlay/dns/messages.h"

namespace muster::overlay::dns {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;
using namespace testing;  // NOLINT: of this room

class ResolverTest : public ::testing::Test {
 protected:
  ResolverTest() {
    v1::NetdNetwork network;
    network.set_id("n1");
    network.set_name("net");
    network.add_subnets("10.0.1.0/24");
    network.add_subnets("fd00:1::/64");
    table_.set(network);
  }
  void add(const std::string& service, int slot, std::vector<std::string> addresses,
           bool ready = true) {
    v1::NetdEndpoint out;
    out.set_network_id("n1");
    out.set_task_id(fmt::format("t{}{}", service, slot));
    out.set_service_id(service);
    out.set_service_name(service);
    out.set_name(fmt::format("{}.{}.{}", service, slot, out.task_id()));
    for (const std::string& address : addresses) out.add_addresses(address);
    out.set_ready(ready);
    table_.set(out);
  }
  // nullopt when the question is somebody else's.
  std::optional<Shown> ask(const std::string& name, ldns_rr_type type = LDNS_RR_TYPE_A,
                           uint16_t edns_size = 0, bool tcp = false) {
    const ParsedQuery parsed = parse_query(question(name, type, 77, edns_size));
    EXPECT_TRUE(parsed.query.has_value()) << name;
    if (!parsed.query) return std::nullopt;
    const size_t limit = tcp ? kTcpAnswerMax : parsed.query->udp_answer_max;
    const auto answer = resolver_.answer({"n1"}, *parsed.query, limit);
    if (!answer) return std::nullopt;
    EXPECT_LE(answer->size(), limit);
    return show(*answer);
  }

  NameTable table_;
  SeededRng rng_{1};
  Resolver resolver_{table_, rng_};
};

TEST_F(ResolverTest, AnswersWithTheAddressesOfAService) {
  add("web", 1, {"10.0.1.3"});
  const auto answer = ask("web");
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->id, 77);
  EXPECT_EQ(answer->rcode, "NOERROR");
  EXPECT_TRUE(answer->authoritative);
  EXPECT_FALSE(answer->truncated);
  EXPECT_FALSE(answer->edns);
  EXPECT_THAT(answer->answers, ElementsAre("web. 5 A 10.0.1.3"));
}

TEST_F(ResolverTest, TheTtlCanBeSet) {
  add("web", 1, {"10.0.1.3"});
  resolver_.set_ttl(60s);
  EXPECT_THAT(ask("web")->answers, ElementsAre("web. 60 A 10.0.1.3"));
  resolver_.set_ttl(Duration(0));
  EXPECT_THAT(ask("web")->answers, ElementsAre("web. 0 A 10.0.1.3"));
}

TEST_F(ResolverTest, LettersMayBeOfEitherCaseAndComeBackAsTheyWere) {
  add("web", 1, {"10.0.1.3"});
  const auto answer = ask("wEb.");
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->name, "wEb.");
  EXPECT_THAT(answer->answers, ElementsAre("wEb. 5 A 10.0.1.3"));
}

TEST_F(ResolverTest, AKnownNameWithoutTheTypeHasAnEmptyAnswer) {
  add("web", 1, {"10.0.1.3"});
  for (const auto type :
       {LDNS_RR_TYPE_AAAA, LDNS_RR_TYPE_MX, LDNS_RR_TYPE_TXT, LDNS_RR_TYPE_SRV, LDNS_RR_TYPE_PTR}) {
    const auto answer = ask("web", type);
    ASSERT_TRUE(answer) << type;
    EXPECT_EQ(answer->rcode, "NOERROR");
    EXPECT_THAT(answer->answers, IsEmpty());
  }
  EXPECT_FALSE(ask("elsewhere.example"));
}

TEST_F(ResolverTest, BothFamilies) {
  add("web", 1, {"10.0.1.3", "fd00:1::3"});
  EXPECT_THAT(ask("web")->answers, ElementsAre("web. 5 A 10.0.1.3"));
  EXPECT_THAT(ask("web", LDNS_RR_TYPE_AAAA)->answers, ElementsAre("web. 5 AAAA fd00:1::3"));
  EXPECT_THAT(ask("web", LDNS_RR_TYPE_ANY)->answers,
              UnorderedElementsAre("web. 5 A 10.0.1.3", "web. 5 AAAA fd00:1::3"));
}

TEST_F(ResolverTest, TheOrderTurns) {
  for (int i = 1; i <= 3; ++i) add("web", i, {fmt::format("10.0.1.{}", i)});
  std::map<std::string, int> first;
  for (int i = 0; i < 300; ++i) ++first[ask("web")->answers.at(0)];
  ASSERT_EQ(first.size(), 3u);
  for (const auto& [record, count] : first) EXPECT_GT(count, 60) << record;
  // The same seed, the same order.
  SeededRng again(1);
  Resolver other(table_, again);
  const Query query = *parse_query(question("web", LDNS_RR_TYPE_A)).query;
  SeededRng fresh(1);
  Resolver resolver(table_, fresh);
  EXPECT_EQ(other.answer({"n1"}, query, 512), resolver.answer({"n1"}, query, 512));
}

TEST_F(ResolverTest, AddressesToNames) {
  add("web", 1, {"10.0.1.3", "fd00:1::3"});
  EXPECT_THAT(ask("3.1.0.10.in-addr.arpa", LDNS_RR_TYPE_PTR)->answers,
              ElementsAre("3.1.0.10.in-addr.arpa. 5 PTR web.1.tweb1.net."));
  const std::string v6 = "3.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa";
  EXPECT_THAT(ask(v6, LDNS_RR_TYPE_PTR)->answers, ElementsAre(v6 + ". 5 PTR web.1.tweb1.net."));
  // Nobody's, but of our network: not worth asking the world.
  const auto nobody = ask("77.1.0.10.in-addr.arpa", LDNS_RR_TYPE_PTR);
  ASSERT_TRUE(nobody);
  EXPECT_EQ(nobody->rcode, "NXDOMAIN");
  EXPECT_FALSE(ask("1.2.0.192.in-addr.arpa", LDNS_RR_TYPE_PTR));
  for (const char* odd : {"1.0.10.in-addr.arpa", "3.1.0.10.5.in-addr.arpa", "x.1.0.10.in-addr.arpa",
                          "256.1.0.10.in-addr.arpa", "in-addr.arpa", "3.ip6.arpa"}) {
    EXPECT_FALSE(ask(odd, LDNS_RR_TYPE_PTR)) << odd;
  }
}

TEST_F(ResolverTest, ServicesByPort) {
  v1::NetdService service;
  service.set_network_id("n1");
  service.set_id("web");
  service.set_name("web");
  auto* port = service.add_ports();
  port->set_name("http");
  port->set_protocol("tcp");
  port->set_target(8080);
  table_.set(service);
  add("web", 1, {"10.0.1.3"});
  const auto answer = ask("_http._tcp.web", LDNS_RR_TYPE_SRV);
  ASSERT_TRUE(answer);
  EXPECT_THAT(answer->answers, ElementsAre("_http._tcp.web. 5 SRV 0 0 8080 web.1.tweb1."));
  EXPECT_THAT(answer->additional, ElementsAre("web.1.tweb1. 5 A 10.0.1.3"));
  EXPECT_THAT(ask("_http._tcp.web")->answers, IsEmpty());
}

TEST_F(ResolverTest, WhatDoesNotFitIsLeftOutAndSaid) {
  for (int i = 1; i <= 200; ++i) add("web", i, {fmt::format("10.0.1.{}", i)});
  const auto plain = ask("web");
  EXPECT_TRUE(plain->truncated);
  EXPECT_GT(plain->answers.size(), 25u) << "some clients never come again over TCP";
  const auto edns = ask("web", LDNS_RR_TYPE_A, 1232);
  EXPECT_TRUE(edns->truncated);
  EXPECT_TRUE(edns->edns);
  EXPECT_GT(edns->answers.size(), plain->answers.size());
  const auto large = ask("web", LDNS_RR_TYPE_A, 65000);
  EXPECT_FALSE(large->truncated);
  const auto tcp = ask("web", LDNS_RR_TYPE_A, 0, true);
  EXPECT_FALSE(tcp->truncated);
  EXPECT_EQ(std::set<std::string>(tcp->answers.begin(), tcp->answers.end()).size(), 200u);
}

TEST_F(ResolverTest, ANameThatCannotBeWrittenIsLeftOut) {
  add(std::string(64, 'x'), 1, {"10.0.1.3"});
  EXPECT_THAT(ask("3.1.0.10.in-addr.arpa", LDNS_RR_TYPE_PTR)->answers, IsEmpty());
}

TEST(ParseQuery, WhatIsNoQuestionIsAnsweredAccordingly) {
  EXPECT_EQ(parse_query("").complaint, "");
  EXPECT_EQ(parse_query("short").complaint, "");
  const std::string good = question("web", LDNS_RR_TYPE_A);
  std::string answer = good;
  answer[2] |= static_cast<char>(0x80);
  EXPECT_EQ(parse_query(answer).complaint, "") << "answers are not answered";
  std::string update = good;
  update[2] = static_cast<char>(5 << 3);
  EXPECT_EQ(show(parse_query(update).complaint).rcode, "NOTIMPL");
  const std::string cut = good.substr(0, good.size() - 3);
  const auto complaint = parse_query(cut);
  EXPECT_FALSE(complaint.query);
  EXPECT_EQ(show(complaint.complaint).rcode, "FORMERR");
  EXPECT_EQ(show(complaint.complaint).id, 77);
  std::string none = good.substr(0, 12);
  none[5] = 0;
  EXPECT_EQ(show(parse_query(none).complaint).rcode, "FORMERR");
  const auto version = parse_query(question("web", LDNS_RR_TYPE_A, 9, 1232, 1));
  EXPECT_FALSE(version.query);
  EXPECT_TRUE(show(version.complaint).edns);
}

TEST(ParseQuery, BytesThatAreNoTextAreNotTakenForADot) {
  std::string odd = question("a.b", LDNS_RR_TYPE_A);
  odd.replace(12, 5, std::string("\3a.b\0", 5));
  const auto parsed = parse_query(odd);
  ASSERT_TRUE(parsed.query);
  EXPECT_FALSE(parsed.query->plain);
}

}  // namespace
}  // namespace muster::overlay::dns
