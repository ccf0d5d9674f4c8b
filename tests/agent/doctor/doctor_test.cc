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
      tell(heard);
    }
    Result<std::vector<Answer>> connect(const std::string& netns,
                                        const std::vector<Target>& targets, Duration) override {
      connects.push_back(netns + ">" + targets.front().address);
      if (!answers.empty()) {
        const Answer answer = answers.front();
        answers.pop_front();
        return std::vector<Answer>(targets.size(), answer);
      }
      return std::vector<Answer>(targets.size(), Answer::kAccepted);
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
    Result<std::vector<bool>> echo(const std::string& netns,
                                   const std::vector<std::string>& addresses, Duration) override {
      echoes.push_back(netns + ">" + addresses.front());
      refused["XfrmInStateSeqError"] += 3;
      return std::vector<bool>(addresses.size(), echoed);
    }
    Refusals refusals() override { return refused; }
    std::optional<std::string> setting(const std::string& key) override {
      const auto at = settings.find(key);
      return at == settings.end() ? std::nullopt : std::optional(at->second);
    }
    bool has_address(const std::string&) override { return address_there; }
    void stop() override {}

    TunnelTest asked;
    std::optional<TunnelTest> encryption_asked;
    Result<Heard> encryption_heard = Heard{{"n2", {true, true, 128}}};
    Result<Heard> heard = Heard{{"n2", {true, true, 1450}}};
    std::vector<std::string> connects;
    std::vector<std::string> echoes;
    Refusals refused;
    bool echoed = true;
    std::deque<Answer> answers;
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
    v1::NetworkExamination asked;
    asked.set_id("x");
    asked.set_timeout_ns(timeout.count());
    asked.set_data_path_port(4789);
    v1::ExaminedNode& node = *asked.add_nodes();
    node.set_node_id("n2");
    node.set_hostname("two");
    node.set_data_path_addr("192.0.2.2");
    doctor_.examine(asked);
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

  SimWorld world_;
  SimExecutor strand_{world_};
  Pool pool_;
  Tests tests_;
  std::vector<std::string> events_;
  FakeNetwork network_{events_};
  NodeFacts facts_ = node_in_network();
  std::vector<v1::NetworkFindings> told_;
  Doctor doctor_{{strand_, pool_, tests_, network_, [this] { return facts_; },
                  [this](const v1::NetworkFindings& findings) { told_.push_back(findings); },
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
  EXPECT_EQ(checks, (std::set<std::string>{"clock", "neighbours", "dns", "vip", "mesh"}));
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

}  // namespace
}  // namespace muster::agent
