#include "agent/doctor/doctor.h"

#include <gtest/gtest.h>

#include <deque>
#include <map>

#include "base/sim_executor.h"
#include "tests/agent/doctor/node_in_network.h"
#include "tests/agent/worker/fakes.h"

namespace muster::agent {
namespace {

using Finding = v1::NetworkFinding;

class DoctorTest : public ::testing::Test {
 protected:
  // Runs what is posted when it is told to.
  struct Pool final : BlockingPool {
    void post(UniqueFunction<void()> work) override { queue.push_back(std::move(work)); }
    void run() {
      while (!queue.empty()) {
        auto work = std::move(queue.front());
        queue.pop_front();
        work();
      }
    }
    std::deque<UniqueFunction<void()>> queue;
  };
  struct Tests final : HostTests {
    void test_tunnels(const TunnelTest& test,
                      std::function<void(const Result<Heard>&)> tell) override {
      if (test.way != Way::kVxlan) {
        encryption_asked = test;
        return tell(encryption_heard);
      }
      asked = test;
      if (tells_later) {
        later = [this, tell] { tell(heard); };
      } else {
        tell(heard);
      }
    }
    using HostTests::connect;
    std::vector<Result<std::vector<Answer>>> connect(const std::vector<Connects>& from,
                                                     Duration) override {
      std::vector<Result<std::vector<Answer>>> out;
      for (const Connects& some : from) {
        std::vector<Answer> of_netns;
        for (const Target& target : some.targets) {
          const std::string way = some.netns + ">" + target.address;
          connects.push_back(way);
          const auto at = answers.find(way);
          of_netns.push_back(at == answers.end() ? Answer::kAccepted : at->second);
        }
        out.emplace_back(std::move(of_netns));
      }
      return out;
    }
    Result<std::vector<Named>> ask_names(const std::string&, const std::vector<Question>& questions,
                                         Duration) override {
      ++name_rounds;
      std::vector<Named> out;
      for (const Question& question : questions) {
        Named named;
        named.answered = !netd_stopped;
        named.addresses = names[question.name];
        out.push_back(named);
      }
      return out;
    }
    std::vector<Result<std::vector<bool>>> echo(const std::vector<Echoes>& from,
                                                Duration) override {
      std::vector<Result<std::vector<bool>>> out;
      for (const Echoes& some : from) {
        for (const std::string& address : some.addresses) {
          echoes.push_back(some.netns + ">" + address);
        }
        out.emplace_back(std::vector<bool>(some.addresses.size(), echoed));
      }
      refused["XfrmInStateSeqError"] += 3;
      return out;
    }
    std::vector<std::string> forward_drops() override { return drops; }
    Refusals refusals() override { return refused; }
    std::optional<std::string> setting(const std::string& key) override {
      const auto at = settings.find(key);
      return at == settings.end() ? std::nullopt : std::optional(at->second);
    }
    bool has_address(const std::string&) override { return address_there; }
    void stop() override {}

    TunnelTest asked;
    bool tells_later = false;
    std::function<void()> later;
    std::optional<TunnelTest> encryption_asked;
    Result<Heard> encryption_heard = Heard{{"n2", {true, true, 128, true}}};
    Result<Heard> heard = Heard{{"n2", {true, true, 1450, true}}};
    std::vector<std::string> connects;
    std::vector<std::string> echoes;
    Refusals refused;
    bool echoed = true;
    std::map<std::string, Answer> answers;  // that are not accepted
    std::vector<std::string> drops;
    bool netd_stopped = false;
    int name_rounds = 0;
    std::map<std::string, std::vector<std::string>> names = {
        {"web.blue", {"10.0.1.2"}},
        {"tasks.web.blue", {"10.0.1.3", "10.0.1.4"}},
        {"list.blue", {"10.0.1.6"}},
        {"tasks.list.blue", {"10.0.1.6"}}};
    std::map<std::string, std::string> settings = {{"net.ipv4.ip_forward", "1"}};
    bool address_there = true;
  };

  void examine(Duration timeout = 10s) {
    asked_ = {};
    asked_.set_id("x");
    asked_.set_timeout_ns(timeout.count());
    asked_.set_data_path_port(4789);
    v1::ExaminedNode& node = *asked_.add_nodes();
    node.set_node_id("n2");
    node.set_hostname("two");
    node.set_data_path_addr("192.0.2.2");
    doctor_.examine(asked_);
  }
  void work() {
    for (int i = 0; i < 4; ++i) {
      pool_.run();
      world_.settle();
    }
  }
  bool ended() const { return !told_.empty() && told_.back().last(); }
  std::vector<Finding> all(Finding::Verdict verdict) const {
    std::vector<Finding> out;
    for (const auto& message : told_) {
      for (const auto& finding : message.findings()) {
        if (finding.verdict() == verdict) out.push_back(finding);
      }
    }
    return out;
  }

  v1::NetworkExamination asked_;
  SimWorld world_;
  SimExecutor strand_{world_};
  Pool pool_;
  Tests tests_;
  std::vector<std::string> events_;
  FakeNetwork network_{events_};
  NodeFacts facts_ = node_in_network();
  std::vector<v1::NetworkFindings> told_;
  std::vector<std::string> mended_;
  int facts_asked_ = 0;
  Doctor doctor_{{strand_, pool_, tests_, network_,
                  [this] {
                    ++facts_asked_;
                    return facts_;
                  },
                  [this](const v1::NetworkFindings& findings) { told_.push_back(findings); },
                  [this](const std::vector<std::string>& mended) { mended_ = mended; },
                  null_log()}};
};

TEST_F(DoctorTest, WhereAllIsWellItSaysSoAndEnds) {
  examine();
  ASSERT_EQ(told_.size(), 1u) << "that it begins, at once";
  EXPECT_EQ(told_[0].findings(0).check(), "clock");
  EXPECT_EQ(told_[0].findings(0).text(), std::to_string(world_.wall_now().unix_ns));
  work();
  ASSERT_TRUE(ended());
  EXPECT_EQ(all(Finding::BAD).size(), 0u);
  EXPECT_EQ(all(Finding::WARNING).size(), 0u);
  std::set<std::string> checks;
  for (const auto& finding : all(Finding::GOOD)) checks.insert(finding.check());
  EXPECT_EQ(checks, (std::set<std::string>{"clock", "neighbours", "dns", "vip", "mesh", "host"}));
  EXPECT_EQ(tests_.asked.peers.at("n2"), "192.0.2.2");
  EXPECT_EQ(tests_.asked.mtu, 1450u);
  EXPECT_EQ(tests_.asked.local_addr, "192.0.2.1");
  EXPECT_EQ(doctor_.under_way(), 0u);
  size_t last = 0;
  for (const auto& message : told_) last += message.last();
  EXPECT_EQ(last, 1u);
}

TEST_F(DoctorTest, WhoIsNotHeardIsCalledByTcp) {
  tests_.heard = HostTests::Heard{{"n2", {}}};
  examine();
  work();
  ASSERT_TRUE(ended());
  const auto bad = all(Finding::BAD);
  ASSERT_EQ(bad.size(), 1u);
  EXPECT_EQ(bad[0].text(), "nothing that two sends to UDP port 4789 of one arrives");
  bool tcp = false;
  for (const auto& finding : all(Finding::GOOD)) tcp = tcp || finding.check() == "tcp";
  EXPECT_TRUE(tcp);
  EXPECT_NE(std::find(tests_.connects.begin(), tests_.connects.end(), ">192.0.2.2"),
            tests_.connects.end());
}

TEST_F(DoctorTest, ATunnelThatCannotBeMadeIsTheNodesOwnTrouble) {
  tests_.heard = fail(failed_precondition("this kernel has no VXLAN"));
  examine();
  work();
  const auto bad = all(Finding::BAD);
  ASSERT_EQ(bad.size(), 1u);
  EXPECT_EQ(bad[0].peer_id(), "");
  EXPECT_EQ(bad[0].text(), "this kernel has no VXLAN");
}

TEST_F(DoctorTest, AnAddressThatIsGoneIsNamed) {
  tests_.address_there = false;
  examine();
  work();
  const auto bad = all(Finding::BAD);
  ASSERT_EQ(bad.size(), 1u);
  EXPECT_TRUE(bad[0].text().starts_with("the data-path address 192.0.2.1 is none of this host's"));
}

TEST_F(DoctorTest, WhatTheKernelLackedIsMendedAndTold) {
  network_.differences = {"network blue: the tunnel was down"};
  examine();
  work();
  const auto found = all(Finding::WARNING);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].check(), "neighbours");
  EXPECT_EQ(network_.repairs, 1);
  EXPECT_EQ(mended_, std::vector<std::string>{"network blue: the tunnel was down"})
      << "it counts like what is mended every 10 s";
}

TEST_F(DoctorTest, AStoppedResolverIsToldOfAfterASecondLook) {
  tests_.netd_stopped = true;
  examine();
  work();
  EXPECT_EQ(tests_.name_rounds, 1);
  EXPECT_FALSE(ended());
  EXPECT_TRUE(all(Finding::BAD).empty());
  world_.advance(Doctor::kSecondLook);
  work();
  EXPECT_EQ(tests_.name_rounds, 2);
  ASSERT_TRUE(ended());
  ASSERT_EQ(all(Finding::BAD).size(), 1u);
  EXPECT_EQ(all(Finding::BAD)[0].check(), "dns");
}

TEST_F(DoctorTest, AStoppedResolverIsNotAskedInEveryNetwork) {
  tests_.netd_stopped = true;
  for (int i = 0; i < 20; ++i) {
    facts_.networks.push_back(facts_.networks[0]);
    facts_.networks.back().network_id = "net" + std::to_string(i);
    facts_.containers[0].attachments.push_back({facts_.networks.back().network_id, {}});
  }
  examine();
  work();
  EXPECT_EQ(tests_.name_rounds, 3) << "there would be no time left for a second look";
}

TEST_F(DoctorTest, WhatOnlyChangesAtTheMomentIsNoFinding) {
  // The managers have told of another task, netd has heard of it already.
  tests_.names["list.blue"] = tests_.names["tasks.list.blue"] = {"10.0.1.7"};
  examine();
  work();
  EXPECT_FALSE(ended());
  facts_.networks[0].feed.mutable_endpoints(3)->set_addresses(0, "10.0.1.7");
  world_.advance(Doctor::kSecondLook);
  work();
  ASSERT_TRUE(ended());
  EXPECT_TRUE(all(Finding::BAD).empty());
}

// Putting them together takes a while in large networks.
TEST_F(DoctorTest, WhatTheNodeKnowsIsPutTogetherOnceForAllParts) {
  tests_.netd_stopped = true;
  tests_.answers = {{"/netns/c1>10.0.1.2", HostTests::Answer::kSilent}};
  examine();
  EXPECT_EQ(facts_asked_, 1);
  work();
  EXPECT_FALSE(ended());
  world_.advance(Doctor::kSecondLook);
  work();
  ASSERT_TRUE(ended());
  EXPECT_EQ(facts_asked_, 2) << "what is looked at again has news";
  // Nothing of it is kept for the next examination.
  asked_.set_id("y");
  doctor_.examine(asked_);
  EXPECT_EQ(facts_asked_, 3);
}

TEST_F(DoctorTest, WhatIsNotDoneInTimeIsSaid) {
  examine(4s);
  world_.advance(3400ms);
  EXPECT_FALSE(ended());
  world_.advance(200ms);
  ASSERT_TRUE(ended());
  EXPECT_EQ(all(Finding::WARNING).size(), Doctor::kPartsMax - 1) << "nothing is encrypted";
  EXPECT_NE(all(Finding::WARNING)[0].text().find("was not done in time"), std::string::npos);
  const size_t before = told_.size();
  work();
  EXPECT_EQ(told_.size(), before) << "nothing follows the last";
}

TEST_F(DoctorTest, PortsOfOthersAndSettingsThatTheMeshNeeds) {
  facts_.refused_ports.push_back(facts_.ports[0].port);
  tests_.settings["net.ipv4.ip_forward"] = "0";
  examine();
  work();
  world_.advance(Doctor::kSecondLook);
  work();
  const auto bad = all(Finding::BAD);
  ASSERT_EQ(bad.size(), 2u);
  EXPECT_TRUE(bad[0].text().starts_with(
      "published port 8080/tcp is in use by a process of this node, which answers here instead of "
      "the service: `ss -lntp sport = :8080`"))
      << bad[0].text();
  EXPECT_TRUE(bad[1].text().starts_with("net.ipv4.ip_forward is 0"));
}

TEST_F(DoctorTest, AProgramAtTheLoopbackOfIPv6AloneIsAWarningAndTheRestIsTried) {
  facts_.loopback_ports.push_back(facts_.ports[0].port);
  examine();
  work();
  world_.advance(Doctor::kSecondLook);
  work();
  ASSERT_TRUE(ended());
  EXPECT_TRUE(all(Finding::BAD).empty());
  const auto found = all(Finding::WARNING);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].check(), "mesh");
  EXPECT_NE(found[0].text().find("another program of this node has it at ::1 alone: `ss -lntp"),
            std::string::npos)
      << found[0].text();
  EXPECT_NE(std::find(tests_.connects.begin(), tests_.connects.end(), ">127.0.0.1"),
            tests_.connects.end());
}

TEST_F(DoctorTest, TheWayOfEncryptedNetworksIsTriedWhereThereIsOne) {
  examine();
  work();
  EXPECT_FALSE(tests_.encryption_asked);
  v1::NetworkExamination again;
  again.set_id("y");
  v1::ExaminedNode& node = *again.add_nodes();
  node.set_node_id("n2");
  node.set_hostname("two");
  node.set_data_path_addr("192.0.2.2");
  facts_.networks[0].feed.mutable_network()->mutable_spec()->add_driver_options()->set_key(
      "encrypted");
  tests_.encryption_heard = HostTests::Heard{{"n2", {}}};
  doctor_.examine(again);
  work();
  ASSERT_TRUE(tests_.encryption_asked);
  EXPECT_EQ(tests_.encryption_asked->way, HostTests::Way::kEsp);
  ASSERT_EQ(all(Finding::BAD).size(), 1u);
  EXPECT_EQ(all(Finding::BAD)[0].check(), "esp");
  EXPECT_EQ(all(Finding::BAD)[0].text(),
            "nothing by IP protocol 50 (ESP) that two sends to one arrives, by which encrypted "
            "networks travel");
  facts_.encryption.set_udp_encapsulation(true);
  again.set_id("z");
  doctor_.examine(again);
  work();
  EXPECT_EQ(tests_.encryption_asked->way, HostTests::Way::kEspInUdp);
  EXPECT_EQ(tests_.encryption_asked->port, 4500);
}

TEST_F(DoctorTest, TheSameExaminationIsDoneOnce) {
  examine();
  examine();
  EXPECT_EQ(told_.size(), 1u);
}

TEST_F(DoctorTest, TooManyAtATimeAreDeclined) {
  for (size_t i = 0; i <= Doctor::kExaminationsMax; ++i) {
    v1::NetworkExamination asked;
    asked.set_id("x" + std::to_string(i));
    doctor_.examine(asked);
  }
  EXPECT_EQ(doctor_.under_way(), Doctor::kExaminationsMax);
  ASSERT_TRUE(told_.back().last());
  EXPECT_EQ(told_.back().findings(0).check(), "node");
}

TEST_F(DoctorTest, EncryptedNetworksAreTriedFromEndToEnd) {
  v1::NetworkFeed& feed = facts_.networks[0].feed;
  feed.mutable_network()->mutable_spec()->add_driver_options()->set_key("encrypted");
  feed.mutable_endpoints(1)->set_node_id("n2");
  tests_.echoed = false;
  tests_.answers["/netns/c1>10.0.1.4"] = HostTests::Answer::kSilent;
  examine();
  work();
  world_.advance(1s);
  work();
  ASSERT_TRUE(ended());
  EXPECT_EQ(tests_.echoes, (std::vector<std::string>(2, "/netns/c1>10.0.1.4"))) << "a second look";
  const auto bad = all(Finding::BAD);
  ASSERT_EQ(bad.size(), 1u);
  EXPECT_EQ(bad[0].check(), "encryption");
  EXPECT_NE(bad[0].text().find("no container on two answers web.1.t1"), std::string::npos);
  EXPECT_NE(bad[0].text().find("refused 3 packets meanwhile, taken for replays"), std::string::npos)
      << bad[0].text();
}

TEST_F(DoctorTest, NetworksAreTriedFromEndToEndByPingThenByTcp) {
  facts_.networks[0].feed.mutable_endpoints(1)->set_node_id("n2");
  tests_.echoed = false;
  tests_.answers["/netns/c1>10.0.1.4"] = HostTests::Answer::kRefused;
  examine();
  work();
  ASSERT_TRUE(ended());
  EXPECT_TRUE(all(Finding::BAD).empty()) << "a refusal is an answer";
  tests_.answers["/netns/c1>10.0.1.4"] = HostTests::Answer::kSilent;
  v1::NetworkExamination again = asked_;
  again.set_id("y");
  doctor_.examine(again);
  work();
  EXPECT_TRUE(all(Finding::BAD).empty()) << "a second look";
  world_.advance(Doctor::kSecondLook);
  work();
  ASSERT_EQ(all(Finding::BAD).size(), 1u);
  EXPECT_EQ(all(Finding::BAD)[0].check(), "neighbours");
  EXPECT_EQ(all(Finding::BAD)[0].network_id(), "net-blue");
}

TEST_F(DoctorTest, OfNodesThatNothingReachesNoMoreIsSaid) {
  facts_.networks[0].feed.mutable_endpoints(1)->set_node_id("n2");
  tests_.echoed = false;
  tests_.answers = {{"/netns/c1>10.0.1.4", HostTests::Answer::kSilent},
                    {"/netns/c1>10.0.1.2", HostTests::Answer::kSilent}};
  // It is heard, but does not hear: it will say so itself.
  tests_.heard = HostTests::Heard{{"n2", {true, true, 1450, false}}};
  tests_.tells_later = true;
  examine();
  work();
  world_.advance(Doctor::kSecondLook);
  work();
  EXPECT_FALSE(ended());
  EXPECT_TRUE(all(Finding::BAD).empty()) << "whether it is reached is not known yet";
  tests_.later();
  work();
  ASSERT_TRUE(ended());
  EXPECT_TRUE(all(Finding::BAD).empty());
}

TEST_F(DoctorTest, WhatWaitsForTheWaysIsToldWhenTimeIsOver) {
  tests_.answers = {{"/netns/c1>10.0.1.2", HostTests::Answer::kSilent}};
  tests_.tells_later = true;
  examine(4s);
  work();
  world_.advance(Doctor::kSecondLook);
  work();
  EXPECT_TRUE(all(Finding::BAD).empty());
  world_.advance(4s);
  ASSERT_TRUE(ended());
  ASSERT_EQ(all(Finding::BAD).size(), 1u);
  EXPECT_EQ(all(Finding::BAD)[0].check(), "vip");
  ASSERT_EQ(all(Finding::WARNING).size(), 1u);
  EXPECT_NE(all(Finding::WARNING)[0].text().find("the ways to other nodes was not done in time"),
            std::string::npos);
}

TEST_F(DoctorTest, AFirewallThatDropsWhatIsForwardedIsNamed) {
  tests_.drops = {"chain FORWARD of table ip filter"};
  tests_.answers["/netns/c1>192.0.2.2"] = HostTests::Answer::kSilent;
  examine();
  work();
  world_.advance(Doctor::kSecondLook);
  work();
  ASSERT_TRUE(ended());
  ASSERT_EQ(all(Finding::BAD).size(), 1u);
  EXPECT_EQ(all(Finding::BAD)[0].check(), "host");
}

}  // namespace
}  // namespace muster::agent
