#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>

#include "tests/deploy/cli/fake_daemon.h"

namespace muster::deploy::cli {
namespace {

using testing::HasSubstr;

class Explain : public testing::Test {
 protected:
  Explain() {
    daemon_.add_service("web", 2);
    auto& fits = *daemon_.explanation.add_nodes();
    fits.set_node_id("n1");
    fits.set_hostname("host1");
    fits.set_fits(true);
    fits.set_tasks(1);
    auto& not_fits = *daemon_.explanation.add_nodes();
    not_fits.set_node_id("n2");
    not_fits.set_hostname("host2");
    not_fits.set_filter("constraint");
    not_fits.set_reason("constraint node.labels.disk == ssd: the label is absent");
    auto& slot = *daemon_.explanation.add_slots();
    slot.set_slot(1);
    slot.set_task_id("task1task1task1");
    slot.set_node_id("n1");
    slot.set_hostname("host1");
    slot.set_state(v1::TASK_RUNNING);
    slot.set_desired_state(v1::TASK_RUNNING);
    slot.set_reason("the only node that fits");
    auto& vacant = *daemon_.explanation.add_slots();
    vacant.set_slot(2);
    vacant.set_reason("is about to be created");
  }
  FakeDaemon daemon_;
};

TEST_F(Explain, TablesOfNodesAndTasks) {
  const Outcome outcome = run_muster(daemon_, {"service", "explain", "web"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.out,
            "NODE      TASKS     TAKES MORE   FILTER       REASON\n"
            "host1     1         yes                       \n"
            "host2     0         no           constraint   constraint node.labels.disk == ssd: the "
            "label is absent\n"
            "\n"
            "TASK      ID             NODE      STATE     REASON\n"
            "web.1     task1task1ta   host1     Running   the only node that fits\n"
            "web.2                                        is about to be created\n");
}

TEST_F(Explain, JsonAndTemplates) {
  const auto json = boost::json::parse(
      run_muster(daemon_, {"service", "explain", "--format", "json", "web"}).out);
  EXPECT_EQ(json.at("Name").as_string(), "web");
  EXPECT_EQ(json.at("Nodes").at(1).at("Filter").as_string(), "constraint");
  EXPECT_FALSE(json.at("Nodes").at(1).at("Fits").as_bool());
  EXPECT_EQ(json.at("Tasks").at(0).at("State").as_string(), "running");
  EXPECT_EQ(run_muster(daemon_, {"service", "explain", "-f",
                                 "{{range .Tasks}}{{.Name}}={{.Hostname}};{{end}}", "web"})
                .out,
            "web.1=host1;web.2=;\n");
}

TEST_F(Explain, WrongUseAndUnknownServices) {
  const Outcome unknown = run_muster(daemon_, {"service", "explain", "nope"});
  EXPECT_EQ(unknown.code, 1);
  EXPECT_EQ(unknown.err, "muster: service nope not found\n");
  EXPECT_EQ(run_muster(daemon_, {"service", "explain"}).code, 2);
  EXPECT_NE(run_muster(daemon_, {"service", "explain", "-f", "{{.Nope", "web"}).code, 0);
  EXPECT_THAT(run_muster(daemon_, {"service", "explain", "--help"}).out,
              HasSubstr("the first filter that turns it away"));
}

}  // namespace
}  // namespace muster::deploy::cli
