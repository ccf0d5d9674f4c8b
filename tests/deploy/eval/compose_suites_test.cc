#include <gtest/gtest.h>

#include <boost/json.hpp>

#include "deploy/eval/compose_suite.h"
#include "deploy/eval/template_suite.h"

namespace muster::deploy::eval {
namespace {

namespace json = boost::json;

TEST(TemplateSuite, RendersAndReportsErrors) {
  const auto run = [](std::string_view input) {
    const auto out = eval_template(json::parse(json::string_view(input.data(), input.size())));
    return out ? json::serialize(*out) : "bad input: " + out.error().message();
  };
  EXPECT_EQ(run(R"({"template": "{{.A}}", "context": {"A": 1}})"), R"({"text":"1"})");
  EXPECT_EQ(run(R"({"template": "{{.Service.Name}}.{{.Task.Slot}}"})"), R"({"text":"service.1"})");
  EXPECT_EQ(run(R"({"template": "{{.B}}", "context": {}, "missing": "empty"})"), R"({"text":""})");
  EXPECT_EQ(run(R"({"template": "{{.B}}", "context": {}})"),
            R"({"error":"template line 1, column 3: there is no field .B"})");
  EXPECT_TRUE(run(R"({"context": {}})").starts_with("bad input: "));
  EXPECT_TRUE(run(R"({"template": "", "missing": "x"})").starts_with("bad input: "));
}

TEST(ComposeSuite, LoadsAndConverts) {
  const auto out = eval_compose(json::parse(R"({
    "files": {"compose.yml": 
                "services: {web: {image: \"nginx:${TAG}\", secrets: [s]}}\nsecrets: {s: {file: s}}",
              ".env": "TAG=1.25", "s": "x"}, "stack": "shop"})"));
  ASSERT_TRUE(out) << out.error().message();
  const json::object& o = out->get_object();
  ASSERT_EQ(o.if_contains("error"), nullptr) << *out;
  EXPECT_EQ(o.at("dialect"), "spec");
  EXPECT_EQ(out->at("document").at("services").at("web").at("image"), "nginx:1.25");
  const json::value& service = o.at("services").at(0);
  EXPECT_EQ(service.at("annotations").at("name"), "shop_web");
  EXPECT_EQ(service.at("task").at("networks").at(0).at("target"), "shop_default");
  EXPECT_EQ(o.at("networks").at(0).at("driver"), "overlay");
  EXPECT_EQ(o.at("secrets").at(0).at("data_bytes"), 1);
  EXPECT_EQ(o.at("secrets").at(0).as_object().if_contains("data"), nullptr);
}

TEST(ComposeSuite, NumbersThatJsonHasNotAreTexts) {
  const auto out = eval_compose(
      json::parse(R"({"files": {"compose.yml": "x-a: [.inf, -.inf, .nan, 1.5]\nservices: {}"}})"));
  ASSERT_TRUE(out);
  EXPECT_EQ(out->at("document").at("x-a"), json::parse(R"(["+Inf", "-Inf", "NaN", 1.5])"));
}

TEST(ComposeSuite, FilesThatDoNotLoadAnswerWithTheError) {
  const auto out = eval_compose(json::parse(
      R"({"files": {"compose.yml": "version: \"3.8\"\nservices: {web: {imagee: x}}"}})"));
  ASSERT_TRUE(out);
  EXPECT_EQ(out->at("error"),
            "compose.yml:2: services.web Additional property imagee is not allowed");
  EXPECT_FALSE(eval_compose(json::parse(R"({"files": 1})")));
  EXPECT_FALSE(eval_compose(json::parse(R"({"files": {}, "dialect": "v4"})")));
}

}  // namespace
}  // namespace muster::deploy::eval
