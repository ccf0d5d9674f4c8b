#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>

#include "base/time.h"
#include "tests/deploy/cli/fake_daemon.h"

namespace muster::deploy::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class Doctor : public testing::Test {
 protected:
  Doctor() {
    v1::ExamineNetworksResponse first;
    for (const char* id : {"n1", "n2"}) {
      v1::Node& node = *first.add_nodes();
      node.set_id(id);
      node.mutable_description()->set_hostname(std::string("host-") + id);
    }
    v1::Network& blue = *first.add_networks();
    blue.set_id("net-blue");
    blue.mutable_spec()->mutable_annotations()->set_name("blue");
    daemon_.examination_messages.push_back(first);
    v1::Node& third = daemon_.nodes.emplace_back();
    third.set_id("n3");
    third.mutable_description()->set_hostname("host-n3");
  }
  v1::NetworkFinding& find(v1::NetworkFinding::Verdict verdict, const char* check, const char* node,
                           const char* text) {
    v1::ExamineNetworksResponse& message = daemon_.examination_messages.emplace_back();
    v1::NetworkFinding& finding = *message.add_findings();
    finding.set_verdict(verdict);
    finding.set_check(check);
    finding.set_node_id(node);
    finding.set_text(text);
    return finding;
  }
  v1::ExamineNetworksResponse& end() {
    v1::ExamineNetworksResponse& last = daemon_.examination_messages.emplace_back();
    last.set_last(true);
    return last;
  }
  Outcome doctor(std::vector<std::string> words = {}) {
    words.insert(words.begin(), {"network", "doctor"});
    return run_muster(daemon_, words);
  }
  FakeDaemon daemon_;
};

TEST_F(Doctor, WhatIsGoodIsCounted) {
  find(v1::NetworkFinding::GOOD, "vxlan", "", "all reached");
  find(v1::NetworkFinding::GOOD, "dns", "n1", "4 questions").set_network_id("net-blue");
  find(v1::NetworkFinding::GOOD, "dns", "n2", "4 questions").set_network_id("net-blue");
  end();
  Outcome outcome = doctor();
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.out, "2 nodes, 1 network: 0 bad, 0 warnings; good: vxlan, dns\n");
  outcome = doctor({"--all"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.out,
            "VERDICT   CHECK     NETWORK   NODE      FINDING\n"
            "good      vxlan                         all reached\n"
            "good      dns       blue      host-n1   4 questions\n"
            "good      dns       blue      host-n2   4 questions\n"
            "\n"
            "2 nodes, 1 network: 0 bad, 0 warnings; good: vxlan, dns\n");
}

TEST_F(Doctor, WhatIsBadComesFirstAndInTheOrderOfTheChecks) {
  find(v1::NetworkFinding::WARNING, "clock", "n1", "is fast");
  find(v1::NetworkFinding::GOOD, "mesh", "n1", "fine");
  find(v1::NetworkFinding::BAD, "mesh", "n2", "taken").set_network_id("net-blue");
  find(v1::NetworkFinding::BAD, "vxlan", "n2", "nothing arrives").set_peer_id("n1");
  end();
  const Outcome outcome = doctor();
  EXPECT_EQ(outcome.code, 1);
  EXPECT_EQ(outcome.out,
            "VERDICT   CHECK     NETWORK   NODE      FINDING\n"
            "bad       vxlan               host-n2   nothing arrives\n"
            "bad       mesh      blue      host-n2   taken\n"
            "warning   clock               host-n1   is fast\n"
            "\n"
            "2 nodes, 1 network: 2 bad, 1 warning\n");
}

TEST_F(Doctor, WhoDoesNotAnswerIsBad) {
  end().add_silent_node_ids("n3");
  const Outcome outcome = doctor();
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.out, HasSubstr("bad       node                host-n3   it did not answer"));
}

TEST_F(Doctor, AWarningAloneIsNoFailure) {
  find(v1::NetworkFinding::WARNING, "clock", "n1", "is fast");
  end();
  EXPECT_EQ(doctor().code, 0);
}

TEST_F(Doctor, JsonTemplatesAndSilence) {
  find(v1::NetworkFinding::BAD, "vxlan", "n2", "nothing arrives").set_peer_id("n1");
  end();
  Outcome outcome = doctor({"--json"});
  EXPECT_EQ(outcome.code, 1);
  const auto json = boost::json::parse(outcome.out);
  EXPECT_EQ(json.at("Verdict").as_string(), "bad");
  EXPECT_EQ(json.at("Node").as_string(), "host-n2");
  EXPECT_EQ(json.at("PeerID").as_string(), "n1");
  EXPECT_EQ(json.at("Text").as_string(), "nothing arrives");
  EXPECT_EQ(doctor({"--format", "{{.Check}} {{.Peer}}"}).out, "vxlan host-n1\n");
  outcome = doctor({"-q"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(outcome.err, "");
}

TEST_F(Doctor, NetworksAndTimeArePassedOn) {
  end();
  EXPECT_EQ(doctor({"--timeout", "1m", "blue", "green"}).code, 0);
  EXPECT_THAT(daemon_.examinations.at(0).networks(), ElementsAre("blue", "green"));
  EXPECT_EQ(daemon_.examinations.at(0).timeout_ns(), Duration(1min).count());
  EXPECT_EQ(doctor().code, 0);
  EXPECT_EQ(daemon_.examinations.at(1).timeout_ns(), 0);
}

TEST_F(Doctor, WhatCannotBeIsSaid) {
  EXPECT_EQ(doctor({"--timeout", "soon"}).code, 2);
  EXPECT_EQ(doctor({"--timeout", "-1s"}).code, 2);
  EXPECT_EQ(doctor({"--json", "--format", "table"}).code, 2);
  Outcome outcome = doctor({"nowhere"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("nowhere"));
  // The stream ends before the examination does.
  outcome = doctor();
  EXPECT_EQ(outcome.code, 1);
  EXPECT_EQ(outcome.err, "muster: the examination broke off; ask again\n");
}

TEST_F(Doctor, HelpTeaches) {
  const Outcome outcome = doctor({"--help"});
  EXPECT_EQ(outcome.code, 0);
  for (const char* part : {"vxlan", "neighbours", "--timeout", "Exit code"}) {
    EXPECT_THAT(outcome.out, HasSubstr(part));
  }
}

}  // namespace
}  // namespace muster::deploy::cli
