#include "deploy/eval/update_suite.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>

namespace muster::deploy::eval {
namespace {

std::string run(const char* input) {
  const auto output = eval_update(boost::json::parse(input));
  return output ? boost::json::serialize(*output) : "error: " + output.error().message();
}

// The worked example of docs/debug-eval.md comes first.
TEST(EvalUpdate, Table) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"config": {"failure_action": "rollback", "max_failure_ratio": 0.2, "delay": "2s"},
           "slots": 4, "now": "9s",
           "attempts": [{"slot": 1, "created": "0s", "running": "1s"},
                        {"slot": 2, "created": "3s", "running": "4s", "state": "failed",
                         "ended": "8s", "error": "exit code 1"}]})",
       R"({"decision":"roll-back","reason":"failure or early termination of task web.2 (attempt2): )"
       R"(exit code 1","failures":1,"may_begin":0,"slots":[)"
       R"({"slot":1,"stage":"runs","since":"1s"},{"slot":2,"stage":"failed","since":"8s"}]})"},
      {R"({})", R"({"decision":"go-on","failures":0,"may_begin":1,"slots":[]})"},
      {R"({"slots": 1, "now": "2s", "attempts": [{"slot": 1}]})",
       R"({"decision":"go-on","failures":0,"may_begin":0,"next_look":"5s","slots":[)"
       R"({"slot":1,"stage":"runs","since":"0s"}]})"},
      {R"({"slots": 1, "now": "5s", "attempts": [{"slot": 1}]})",
       R"({"decision":"complete","failures":0,"may_begin":0,"slots":[)"
       R"({"slot":1,"stage":"runs","since":"0s"}]})"},
      {R"({"config": {"progress_deadline": "1m"}, "slots": 2, "now": "60s", "state":
           "rollback_started", "attempts": [{"slot": 1, "state": "pending", "error": "no node"}]})",
       R"({"decision":"pause","reason":"no progress within 1m0s: task web.1 (attempt1) did not )"
       R"(come up: no node","failures":0,"may_begin":0,"slots":[)"
       R"({"slot":1,"stage":"under-way","since":"0s"}]})"},
      {R"([])", "error: input must be an object"},
      {R"({"slot": 1})", "error: input has an unknown key 'slot'"},
      {R"({"now": "soon"})", "error: input.now must be nanoseconds or a text such as \"5s\""},
      {R"({"config": {"failure_action": "stop"}})",
       "error: config.failure_action must be one of continue, pause, rollback"},
      {R"({"config": {"max_failure_ratio": 2}})",
       "error: config.max_failure_ratio must be a number from 0 to 1"},
      {R"({"attempts": [{}]})", "error: attempts[0].slot must be a number from 1"},
  };
  for (const auto& [input, output] : cases) EXPECT_EQ(run(input), output) << input;
}

}  // namespace
}  // namespace muster::deploy::eval
