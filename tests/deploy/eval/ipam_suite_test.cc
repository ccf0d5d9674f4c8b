#include "deploy/eval/ipam_suite.h"

#include <gtest/gtest.h>

namespace muster::deploy::eval {
namespace {

std::string run(const char* input) {
  const auto output = eval_ipam(boost::json::parse(input));
  return output ? boost::json::serialize(*output) : "error: " + output.error().message();
}

TEST(EvalIpam, Table) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"operations":[]})", R"({"results":[]})"},
      {R"({"avoid":["10.0.0.0/16"],"operations":[{"op":"network","network":"a"},
           {"op":"address","network":"a"},{"op":"address","network":"b"},
           {"op":"free","network":"a"}]})",
       R"({"results":[{"pools":[{"subnet":"10.1.0.0/24","gateway":"10.1.0.1"}],"vni":4096},)"
       R"({"addresses":["10.1.0.2/24"],"mac":"02:42:0a:01:00:02"},)"
       R"({"error":"the network has no addresses yet"},{"free":252}]})"},
      {R"({"operations":[{"op":"port","service":"a","port":80},
           {"op":"port","service":"b","port":80},{"op":"release-port","service":"a","port":80},
           {"op":"port","service":"b"}]})",
       R"({"results":[{"port":80},)"
       R"({"error":"port 80/tcp is already in use by service a as an ingress port"},)"
       R"({"released":true},{"port":30000}]})"},
      {R"({"operations":[{"op":"network","network":"a","pools":[{"subnet":"x"}]}]})",
       R"x({"results":[{"error":"\"x\" is not in CIDR form (10.0.0.0/24)"}]})x"},
      {R"({"default_address_pools":["172.20.0.0/16"],"operations":[
           {"op":"network","network":"in","ingress":true},{"op":"free","network":"in"}]})",
       R"({"results":[{"pools":[{"subnet":"172.20.0.0/20","gateway":"172.20.0.1"}],"vni":4096},)"
       R"({"free":4093}]})"},
      {R"({})", R"(error: "operations" is missing or not a list)"},
      {R"([])", R"(error: the case is not an object)"},
      {R"({"operations":[{"op":"dance"}]})", R"(error: unknown operation "dance")"},
      {R"({"operations":[3]})", R"(error: an operation is not an object)"},
      {R"({"operations":[{"op":"port","port":"80"}]})", R"(error: "port" is not a number)"},
  };
  for (const auto& [input, want] : cases) EXPECT_EQ(run(input), want) << input;
}

}  // namespace
}  // namespace muster::deploy::eval
