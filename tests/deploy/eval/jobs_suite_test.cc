#include "deploy/eval/jobs_suite.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>

namespace muster::deploy::eval {
namespace {

std::string run(const char* input) {
  const auto output = eval_jobs(boost::json::parse(input));
  return output ? boost::json::serialize(*output) : "error: " + output.error().message();
}

TEST(EvalJobs, Table) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({})", R"({"state":"running","active":0,"completed":0,"failed":0,)"
                R"("start":[{"slot":0,"at":"0s"}],"run":[],"stop":[],"remove":[]})"},
      {R"({"total": 2, "now": "9s", "attempts": [{"state": "complete"},
           {"slot": 1, "state": "complete"}]})",
       R"({"state":"completed","active":0,"completed":2,"failed":0,)"
       R"("start":[],"run":[],"stop":[],"remove":[]})"},
      {R"({"policy": {"condition": "none"}, "now": "9s",
           "attempts": [{"state": "failed", "error": "exit code 1"}]})",
       R"({"state":"failed","message":"a task of the job cannot complete: task job.0 (attempt1): )"
       R"(exit code 1; not tried again: the restart condition is none","active":0,"completed":0,)"
       R"("failed":1,"start":[],"run":[],"stop":["attempt1"],"remove":[]})"},
      {R"({"now": "3s", "attempts": [{"place": "drained"}]})",
       R"({"state":"running","active":0,"completed":0,"failed":0,)"
       R"("start":[{"slot":0,"at":"3s","waits":true}],"run":[],"stop":["attempt1"],"remove":[],)"
       R"("next_look":"1m3s"})"},
      {R"({"nodes": ["a", "b"], "attempts": [{"node": "b", "state": "complete"}]})",
       R"({"state":"running","active":0,"completed":1,"failed":0,)"
       R"("start":[{"node":"a","at":"0s"}],"run":[],"stop":[],"remove":[]})"},
      {R"({"now": "1s", "attempts": [{"earlier": true}]})",
       R"({"state":"running","active":0,"completed":0,"failed":0,)"
       R"("start":[],"run":[],"stop":["attempt1"],"remove":[],"next_look":"1m1s"})"},
      {R"([])", "error: input must be an object"},
      {R"({"slots": 1})", "error: input has an unknown key 'slots'"},
      {R"({"total": -1})", "error: input.total must be a whole number that is not negative"},
      {R"({"total": 2147483648})", "error: input.total must be a number from 0 to 2147483647"},
      {R"({"nodes": ["a"], "total": 1})",
       "error: input.nodes must be given without total and max_concurrent"},
      {R"({"nodes": ["a"], "attempts": [{}]})", "error: attempts[0].node must be one of the nodes"},
      {R"({"attempts": [{"place": "gone"}]})",
       "error: attempts[0].place must be one of drained, fine, lost"},
  };
  for (const auto& [input, output] : cases) EXPECT_EQ(run(input), output) << input;
}

}  // namespace
}  // namespace muster::deploy::eval
