#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <string>

#include "deploy/eval/constraint_suite.h"
#include "deploy/eval/schedule_suite.h"

namespace muster::deploy::eval {
namespace {

namespace json = boost::json;

std::string answer(Result<json::value> (*suite)(const json::value&), const std::string& input) {
  auto result = suite(json::parse(input));
  return result ? json::serialize(*result) : "error: " + result.error().message();
}

// The worked examples of docs/debug-eval.md.
TEST(ConstraintSuite, Example) {
  EXPECT_EQ(
      answer(eval_constraint, R"({
      "constraints": ["node.role == worker", "node.labels.zone != b", "node.id"],
      "nodes": [{"id": "n1", "labels": {"zone": "a"}}]})"),
      R"({"constraints":[)"
      R"({"text":"node.role == worker","key":"node.role","operator":"==","value":"worker"},)"
      R"({"text":"node.labels.zone != b","key":"node.labels.zone","operator":"!=","value":"b"},)"
      R"({"text":"node.id","error":"constraint expected one operator from ==, !="}],)"
      R"("matches":[],"nodes":[{"id":"n1","matches":false,"failing":["node.id"]}]})");
  EXPECT_EQ(
      answer(eval_constraint, R"({
      "constraints": ["node.role == manager"],
      "nodes": [{"id": "n1"}, {"id": "n2", "role": "manager"}]})"),
      R"({"constraints":[)"
      R"({"text":"node.role == manager","key":"node.role","operator":"==","value":"manager"}],)"
      R"("matches":["n2"],"nodes":[)"
      R"({"id":"n1","matches":false,"failing":["node.role == manager"]},)"
      R"({"id":"n2","matches":true,"failing":[]}]})");
}

TEST(ScheduleSuite, Example) {
  EXPECT_EQ(answer(eval_schedule, R"({
      "nodes": [
        {"id": "n1", "resources": {"memory_bytes": 1000}},
        {"id": "n2", "resources": {"memory_bytes": 500}},
        {"id": "n3", "availability": "drain"}],
      "services": [{"id": "web", "reservations": {"memory_bytes": 500}}],
      "tasks": [
        {"service": "web", "slot": 1, "node": "n1", "state": "running"},
        {"service": "web", "slot": 2, "count": 3}]})"),
            R"({"placements":[{"task":"web.2","node":"n2"},{"task":"web.3","node":"n1"}],)"
            R"("unplaced":[{"task":"web.4","reason":"no suitable node (insufficient resources on )"
            R"(2 nodes; 1 node not available for new tasks): insufficient memory on 2 nodes; )"
            R"(availability drain on 1 node"}]})");
}

TEST(ScheduleSuite, ExplainsEveryNode) {
  EXPECT_EQ(
      answer(eval_schedule, R"({
      "nodes": [
        {"id": "n1", "resources": {"memory_bytes": 1000}},
        {"id": "n2", "resources": {"memory_bytes": 500}},
        {"id": "n3", "availability": "drain"}],
      "services": [{"id": "web", "reservations": {"memory_bytes": 500}},
                   {"id": "free"}],
      "tasks": [
        {"service": "web", "slot": 1, "node": "n1", "state": "running"},
        {"service": "web", "slot": 2, "count": 2}],
      "explain": ["web", "free"]})"),
      R"({"placements":[{"task":"web.2","node":"n2"},{"task":"web.3","node":"n1"}],)"
      R"("unplaced":[],"explained":[{"service":"web","nodes":[)"
      R"({"id":"n1","fits":false,"tasks":2,"filter":"resource",)"
      R"("reason":"memory: 500B asked, 0B free of 1000B"},)"
      R"({"id":"n2","fits":false,"tasks":1,"filter":"resource",)"
      R"("reason":"memory: 500B asked, 0B free of 500B"},)"
      R"({"id":"n3","fits":false,"tasks":0,"filter":"ready","reason":"availability drain"}]},)"
      R"({"service":"free","nodes":[{"id":"n1","fits":true,"tasks":0},)"
      R"({"id":"n2","fits":true,"tasks":0},)"
      R"({"id":"n3","fits":false,"tasks":0,"filter":"ready","reason":"availability drain"}]}]})");
}

TEST(ScheduleSuite, GivesNamesOfGenericResources) {
  EXPECT_EQ(answer(eval_schedule, R"({
      "nodes": [{"id": "n1", "resources": {"generic": [{"kind": "GPU", "names": ["b", "a"]}]}}],
      "services": [{"id": "web", "reservations": {"generic": [{"kind": "GPU", "count": 1}]}}],
      "tasks": [{"service": "web"}]})"),
            R"({"placements":[{"task":"web.1","node":"n1",)"
            R"("generic":[{"kind":"GPU","names":["a"]}]}],"unplaced":[]})");
}

TEST(ScheduleSuite, TasksOfJobsHoldTheirReservationOnlyWhileTheyRun) {
  const std::string begin = R"({
      "nodes": [{"id": "n1", "resources": {"memory_bytes": 500}}],
      "services": [{"id": "job", "reservations": {"memory_bytes": 500}, "max_replicas_per_node": 1}],
      "tasks": [{"service": "job", "slot": 0, "node": "n1", "desired_state": "complete", "state": ")";
  const std::string end = R"("},
                {"service": "job", "slot": 1, "desired_state": "complete"}]})";
  EXPECT_EQ(answer(eval_schedule, begin + "complete" + end),
            R"({"placements":[{"task":"job.1","node":"n1"}],"unplaced":[]})");
  EXPECT_EQ(answer(eval_schedule, begin + "running" + end).find(R"("placements":[])"), 1u);
}

TEST(ScheduleSuite, NamesWhatIsWrong) {
  const struct {
    const char* input;
    const char* error;
  } kCases[] = {
      {"[]", "error: input must be an object"},
      {R"({"node": []})", "error: input has an unknown key 'node'"},
      {R"({"nodes": {}})", "error: input.nodes must be a list"},
      {R"({"nodes": [{}]})", "error: nodes[0].id must be given"},
      {R"({"nodes": [{"id": "n", "state": "up"}]})",
       "error: nodes[0].state must be one of ready, down, unknown, disconnected"},
      {R"({"nodes": [{"id": "n", "resources": {"memory_bytes": -1}}]})",
       "error: nodes[0].resources.memory_bytes must be a whole number that is not negative"},
      {R"({"services": [{"id": "s", "host_ports": ["x"]}]})",
       "error: services[0].host_ports must be a list like \"80/tcp\""},
      {R"({"tasks": [{"state": "walking"}]})",
       "error: tasks[0].state: 'walking' is not a task state"},
      {R"({"tasks": [{"id": "a"}, {"id": "a"}]})", "error: two tasks have the id 'a'"},
      {R"({"explain": ["web"]})", "error: explain: there is no service 'web'"},
  };
  for (const auto& c : kCases) EXPECT_EQ(answer(eval_schedule, c.input), c.error) << c.input;
}

}  // namespace
}  // namespace muster::deploy::eval
