#include "overlay/dns/forwarder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>

#include "tests/overlay/dns/messages.h"

namespace muster::overlay::dns {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using namespace testing;  // NOLINT: of this room

struct Sent {
  uint64_t exchange;
  std::string container;
  Upstream server;
  bool tcp;
  std::string packet;
};

class FakeSockets final : public UpstreamPort {
 public:
  void send(uint64_t exchange, const std::string& container, const Upstream& server, bool tcp,
            const std::string& packet) override {
    sent.push_back({exchange, container, server, tcp, packet});
    open.insert(exchange);
  }
  void close(uint64_t exchange) override { open.erase(exchange); }

  std::vector<Sent> sent;
  std::set<uint64_t> open;
};

class ForwarderTest : public ::testing::Test {
 protected:
  void ask(const std::string& name, std::vector<Upstream> servers, uint16_t edns = 0,
           bool tcp = false, const std::string& container = "c1", uint16_t id = 77) {
    const Query query = *parse_query(question(name, LDNS_RR_TYPE_A, id, edns)).query;
    const size_t limit = tcp ? kTcpAnswerMax : query.udp_answer_max;
    forwarder_.ask(now_, {container, std::move(servers), query, limit},
                   [this](const std::string& answer) { answers_.push_back(show(answer)); });
  }
  const Sent& last() { return sockets_.sent.back(); }
  void receive(const std::string& packet) { forwarder_.received(now_, last().exchange, packet); }
  void pass(Duration time) {
    now_ = now_ + time;
    forwarder_.tick(now_);
  }

  static Upstream server(const char* address, bool from_node = false) {
    return {*Ip::parse(address), from_node};
  }
  Upstream a_ = server("192.0.2.1");
  Upstream b_ = server("192.0.2.2");
  TimePoint now_{1h};
  FakeSockets sockets_;
  SeededRng rng_{3};
  Forwarder forwarder_{sockets_, rng_};
  std::vector<Shown> answers_;
};

TEST_F(ForwarderTest, AnAnswerGoesToWhoeverAsked) {
  ask("Example.org", {a_, b_});
  ASSERT_EQ(sockets_.sent.size(), 1u);
  EXPECT_EQ(last().server, a_);
  EXPECT_FALSE(last().tcp);
  EXPECT_TRUE(show(last().packet).edns);
  receive(reply(last().packet, {"example.org. 300 IN A 198.51.100.7"}));
  ASSERT_EQ(answers_.size(), 1u);
  EXPECT_EQ(answers_[0].id, 77);
  EXPECT_EQ(answers_[0].name, "Example.org.");
  EXPECT_FALSE(answers_[0].edns) << "the client did not say it knows EDNS";
  EXPECT_THAT(answers_[0].answers, ElementsAre("Example.org. 300 A 198.51.100.7"));
  EXPECT_THAT(sockets_.open, IsEmpty());
  EXPECT_FALSE(forwarder_.next_deadline());
}

// Who is asked when, if nobody says anything.
TEST_F(ForwarderTest, OneServerAfterAnotherTwiceThenAFailure) {
  const Upstream c = server("192.0.2.3");
  struct Case {
    std::vector<Upstream> servers;
    std::vector<std::pair<Duration, Upstream>> asked;
  };
  const Case cases[] = {
      {{a_}, {{0s, a_}, {1s, a_}}},
      {{a_, b_}, {{0s, a_}, {1s, b_}, {2s, a_}, {3s, b_}}},
      {{a_, b_, c}, {{0ms, a_}, {667ms, b_}, {1333ms, c}, {2000ms, a_}, {2667ms, b_}, {3333ms, c}}},
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(one.servers.size());
    Forwarder forwarder{sockets_, rng_};
    sockets_.sent.clear();
    answers_.clear();
    const Query query = *parse_query(question("example.org", LDNS_RR_TYPE_A, 77, 0)).query;
    const TimePoint begun = now_;
    forwarder.ask(now_, {"c1", one.servers, query, kUdpPlainMax},
                  [this](const std::string& answer) { answers_.push_back(show(answer)); });
    size_t at = 0;
    while (answers_.empty()) {
      ASSERT_LT(at, one.asked.size());
      EXPECT_EQ(sockets_.sent.size(), at + 1);
      EXPECT_EQ(last().server, one.asked[at].second) << at;
      EXPECT_LE(now_ - begun, one.asked[at].first + 1ms) << at;
      EXPECT_GE(now_ - begun, one.asked[at].first - 1ms) << at;
      EXPECT_EQ(sockets_.open.size(), 1u);
      ++at;
      now_ = *forwarder.next_deadline();
      forwarder.tick(now_);
    }
    EXPECT_EQ(at, one.asked.size());
    EXPECT_LE(now_ - begun, 4s);
    EXPECT_GE(now_ - begun, 3999ms);
    EXPECT_EQ(answers_[0].rcode, "SERVFAIL");
    EXPECT_THAT(sockets_.open, IsEmpty());
    EXPECT_EQ(forwarder.waiting(), 0u);
    EXPECT_FALSE(forwarder.next_deadline());
  }
}

TEST_F(ForwarderTest, ALostDatagramCostsASecond) {
  ask("example.org", {a_});
  const std::string lost = last().packet;
  pass(1s);
  ASSERT_EQ(sockets_.sent.size(), 2u);
  EXPECT_NE(last().packet, lost) << "another number: a forger has to guess anew";
  receive(reply(last().packet, {"example.org. 300 IN A 198.51.100.7"}));
  ASSERT_EQ(answers_.size(), 1u);
  EXPECT_THAT(answers_[0].answers, ElementsAre("example.org. 300 A 198.51.100.7"));
}

TEST_F(ForwarderTest, OnlyTheSilentAreAskedAgain) {
  const Upstream c = server("192.0.2.3");
  ask("example.org", {a_, b_, c});
  receive(reply(last().packet, {}, LDNS_RCODE_SERVFAIL));
  forwarder_.failed(now_, last().exchange);  // nobody has b's port
  EXPECT_EQ(last().server, c);
  pass(1s);
  ASSERT_EQ(sockets_.sent.size(), 4u);
  EXPECT_EQ(last().server, c);
  forwarder_.failed(now_, last().exchange);
  ASSERT_EQ(answers_.size(), 1u);
  EXPECT_EQ(answers_[0].rcode, "SERVFAIL");
  // Where all of them fail at once nobody waits.
  ask("other.example", {a_});
  forwarder_.failed(now_, last().exchange);
  EXPECT_EQ(sockets_.sent.size(), 5u);
  EXPECT_EQ(answers_.size(), 2u);
}

TEST_F(ForwarderTest, TcpEndsInTheSameTime) {
  ask("example.org", {a_});
  pass(1s);
  pass(2500ms);
  receive(reply(last().packet, {}, LDNS_RCODE_NOERROR, true));
  ASSERT_EQ(sockets_.sent.size(), 3u);
  EXPECT_TRUE(last().tcp);
  EXPECT_EQ(*forwarder_.next_deadline() - now_, 500ms);
  ask("other.example", {b_});
  receive(reply(last().packet, {}, LDNS_RCODE_NOERROR, true));
  EXPECT_TRUE(last().tcp);
  pass(500ms);
  EXPECT_EQ(answers_.size(), 1u);
  EXPECT_EQ(*forwarder_.next_deadline() - now_, 1500ms);
  pass(1500ms);
  EXPECT_EQ(last().server, b_);
  EXPECT_FALSE(last().tcp) << "asked again as before";
}

TEST_F(ForwarderTest, AServerThatFailedIsAskedLastForAWhile) {
  ask("one.example", {a_, b_});
  forwarder_.failed(now_, last().exchange);
  EXPECT_EQ(last().server, b_);
  receive(reply(last().packet, {"one.example. 300 IN A 198.51.100.7"}));
  ask("two.example", {a_, b_});
  EXPECT_EQ(last().server, b_);
  receive(reply(last().packet, {"two.example. 300 IN A 198.51.100.7"}));
  pass(10s);
  ask("three.example", {a_, b_});
  EXPECT_EQ(last().server, a_);
}

TEST_F(ForwarderTest, ARefusalIsTheAnswerWhenNobodyHasABetterOne) {
  ask("example.org", {a_, b_});
  receive(reply(last().packet, {}, LDNS_RCODE_REFUSED));
  EXPECT_EQ(last().server, b_);
  pass(1s);
  EXPECT_EQ(last().server, b_);
  EXPECT_THAT(answers_, IsEmpty());
  pass(3s);
  ASSERT_EQ(answers_.size(), 1u);
  EXPECT_EQ(answers_[0].rcode, "REFUSED");
}

TEST_F(ForwarderTest, NoSuchNameIsAnAnswer) {
  ask("nowhere.example", {a_, b_});
  receive(reply(last().packet, {}, LDNS_RCODE_NXDOMAIN));
  ASSERT_EQ(answers_.size(), 1u);
  EXPECT_EQ(answers_[0].rcode, "NXDOMAIN");
}

TEST_F(ForwarderTest, ALongAnswerIsAskedForAgainOverTcp) {
  ask("example.org", {a_}, 0, true);
  receive(reply(last().packet, {}, LDNS_RCODE_NOERROR, true));
  ASSERT_EQ(sockets_.sent.size(), 2u);
  EXPECT_TRUE(last().tcp);
  EXPECT_EQ(last().server, a_);
  std::vector<std::string> records;
  for (int i = 1; i < 100; ++i) records.push_back(fmt::format("example.org. 9 A 10.9.9.{}", i));
  receive(reply(last().packet, records));
  ASSERT_EQ(answers_.size(), 1u);
  EXPECT_EQ(answers_[0].answers.size(), 99u);
  EXPECT_FALSE(answers_[0].truncated);
  // The same for a client that asks over UDP: it is told to come again.
  ask("example.org", {a_});
  EXPECT_EQ(sockets_.sent.size(), 2u) << "from the cache";
  EXPECT_TRUE(answers_[1].truncated);
}

TEST_F(ForwarderTest, AnOldServerIsAskedWithoutEdns) {
  ask("example.org", {a_});
  receive(reply(last().packet, {}, LDNS_RCODE_FORMERR));
  ASSERT_EQ(sockets_.sent.size(), 2u);
  EXPECT_FALSE(show(last().packet).edns);
  receive(reply(last().packet, {"example.org. 300 IN A 198.51.100.7"}));
  ASSERT_EQ(answers_.size(), 1u);
  EXPECT_EQ(answers_[0].rcode, "NOERROR");
}

TEST_F(ForwarderTest, WhatIsNotTheAnswerIsNotTakenForIt) {
  ask("example.org", {a_});
  const std::string asked = last().packet;
  receive("rubbish");
  receive(asked);  // a question, not an answer
  std::string other_id = reply(asked, {"example.org. 300 IN A 203.0.113.66"});
  other_id[0] = static_cast<char>(other_id[0] ^ 1);
  receive(other_id);
  receive(reply(question("evil.example", LDNS_RR_TYPE_A,
                         static_cast<uint16_t>(static_cast<uint8_t>(asked[0]) * 256 +
                                               static_cast<uint8_t>(asked[1]))),
                {"evil.example. 300 IN A 203.0.113.66"}));
  EXPECT_THAT(answers_, IsEmpty());
  receive(reply(asked, {"example.org. 300 IN A 198.51.100.7"}));
  ASSERT_EQ(answers_.size(), 1u);
  EXPECT_THAT(answers_[0].answers, ElementsAre("example.org. 300 A 198.51.100.7"));
}

TEST_F(ForwarderTest, AnswersAreKeptAsLongAsTheySay) {
  ask("example.org", {a_});
  receive(reply(last().packet, {"example.org. 30 IN A 198.51.100.7"}));
  pass(10s);
  ask("EXAMPLE.org", {a_});
  ASSERT_EQ(answers_.size(), 2u);
  EXPECT_EQ(answers_[1].name, "EXAMPLE.org.");
  EXPECT_THAT(answers_[1].answers, ElementsAre("EXAMPLE.org. 20 A 198.51.100.7"));
  EXPECT_EQ(sockets_.sent.size(), 1u);
  pass(20s);
  ask("example.org", {a_});
  EXPECT_EQ(sockets_.sent.size(), 2u);
}

TEST_F(ForwarderTest, NoSuchNameIsKeptAsLongAsItsZoneSays) {
  ask("nowhere.example", {a_});
  receive(reply(last().packet, {}, LDNS_RCODE_NXDOMAIN, false,
                {"example. 900 IN SOA ns.example. root.example. 1 2 3 4 60"}));
  pass(59s);
  ask("nowhere.example", {a_});
  EXPECT_EQ(answers_.size(), 2u);
  pass(1s);
  ask("nowhere.example", {a_});
  EXPECT_EQ(sockets_.sent.size(), 2u);
}

TEST_F(ForwarderTest, WhatOneContainerLearnedAnotherAsksForItselfUnlessBothAskTheNode) {
  ask("example.org", {a_});
  receive(reply(last().packet, {"example.org. 30 IN A 198.51.100.7"}));
  ask("example.org", {a_}, 0, false, "c2");
  EXPECT_EQ(sockets_.sent.size(), 2u);
  const Upstream node = server("127.0.0.53", true);
  ask("shared.example", {node}, 0, false, "c1");
  receive(reply(last().packet, {"shared.example. 30 IN A 198.51.100.8"}));
  const size_t before = sockets_.sent.size();
  ask("shared.example", {node}, 0, false, "c2");
  EXPECT_EQ(sockets_.sent.size(), before);
}

TEST_F(ForwarderTest, TheSameQuestionIsAskedOnce) {
  ask("example.org", {a_}, 0, false, "c1", 1);
  ask("example.org", {a_}, 0, false, "c1", 2);
  ask("example.org", {a_}, 0, false, "c2", 3);
  EXPECT_EQ(sockets_.sent.size(), 2u);
  forwarder_.received(now_, sockets_.sent[0].exchange,
                      reply(sockets_.sent[0].packet, {"example.org. 0 IN A 198.51.100.7"}));
  ASSERT_EQ(answers_.size(), 2u);
  EXPECT_EQ(answers_[0].id, 1);
  EXPECT_EQ(answers_[1].id, 2);
}

TEST_F(ForwarderTest, TooManyQuestionsAreAnsweredWithAFailure) {
  for (size_t i = 0; i < Forwarder::kWaitingPerContainerMax; ++i) {
    ask(fmt::format("n{}.example", i), {a_});
  }
  EXPECT_THAT(answers_, IsEmpty());
  ask("one-more.example", {a_});
  ASSERT_EQ(answers_.size(), 1u);
  EXPECT_EQ(answers_[0].rcode, "SERVFAIL");
  ask("other.example", {a_}, 0, false, "c2");
  EXPECT_EQ(answers_.size(), 1u) << "one container does not take it from another";
}

TEST_F(ForwarderTest, WithoutServersItFails) {
  ask("example.org", {});
  ASSERT_EQ(answers_.size(), 1u);
  EXPECT_EQ(answers_[0].rcode, "SERVFAIL");
}

TEST_F(ForwarderTest, AContainerThatIsGoneHearsNothing) {
  ask("example.org", {a_});
  ask("example.org", {a_}, 0, false, "c2");
  forwarder_.forget("c1");
  EXPECT_EQ(sockets_.open.size(), 1u);
  forwarder_.received(now_, sockets_.sent[0].exchange,
                      reply(sockets_.sent[0].packet, {"example.org. 0 IN A 198.51.100.7"}));
  EXPECT_THAT(answers_, IsEmpty());
  EXPECT_EQ(forwarder_.waiting(), 1u);
}

TEST(AnswerCacheTest, IsBoundedInBytes) {
  AnswerCache cache(10'000);
  for (int i = 0; i < 1000; ++i) {
    cache.put({}, fmt::format("k{}", i), std::string(100, 'x'), 60s);
    EXPECT_LE(cache.bytes(), 10'000u);
    EXPECT_TRUE(cache.get({}, "k0").has_value()) << "used, so kept";
  }
  EXPECT_FALSE(cache.get({}, "k500").has_value());
  EXPECT_TRUE(cache.get({}, "k999").has_value());
  cache.put({}, "big", std::string(20'000, 'x'), 60s);
  EXPECT_FALSE(cache.get({}, "big").has_value());
}

}  // namespace
}  // namespace muster::overlay::dns
