#include "agent/secrets/payloads.h"

#include <gtest/gtest.h>

#include <string>

#include "agent/secrets/expand.h"
#include "base/template.h"

namespace muster::agent {
namespace {

void add(v1::FeedUpdate& step, const std::string& id, const std::string& data, bool more = false) {
  v1::SecretAssignment& piece = *step.add_secrets();
  piece.set_id(id);
  piece.set_name("name-" + id);
  piece.set_data(data);
  piece.set_more(more);
}

TEST(Payloads, PiecesAreJoinedAndStepsAdd) {
  Payloads payloads;
  v1::FeedUpdate first;
  first.set_complete(true);
  add(first, "a", "one ", true);
  add(first, "a", "two ", true);
  add(first, "a", "three");
  add(first, "b", "B");
  EXPECT_TRUE(payloads.apply(first).ok());
  EXPECT_EQ(payloads.find("a")->data, "one two three");
  EXPECT_EQ(payloads.find("a")->name, "name-a");
  v1::FeedUpdate second;
  add(second, "c", "C");
  second.add_removed_secret_ids("b");
  EXPECT_TRUE(payloads.apply(second).ok());
  EXPECT_EQ(payloads.find("b"), nullptr);
  EXPECT_NE(payloads.find("a"), nullptr);
  EXPECT_NE(payloads.find("c"), nullptr);
}

TEST(Payloads, ACompleteStepReplacesEverything) {
  Payloads payloads;
  v1::FeedUpdate first;
  add(first, "a", "A");
  EXPECT_TRUE(payloads.apply(first).ok());
  const PayloadPtr held = payloads.find("a");
  v1::FeedUpdate complete;
  complete.set_complete(true);
  EXPECT_TRUE(payloads.apply(complete).ok());
  EXPECT_EQ(payloads.size(), 0u);
  EXPECT_EQ(held->data, "A") << "whoever prepares a task with it goes on";
}

TEST(Payloads, APayloadWithoutItsEndIsLeftOut) {
  Payloads payloads;
  v1::FeedUpdate step;
  add(step, "a", "half", true);
  add(step, "b", "B");
  add(step, "c", "half", true);
  const Status status = payloads.apply(step);
  EXPECT_EQ(status.code(), StatusCode::kDataLoss);
  EXPECT_EQ(status.message().find("half"), std::string::npos);
  EXPECT_EQ(payloads.find("a"), nullptr);
  EXPECT_NE(payloads.find("b"), nullptr);
  EXPECT_EQ(payloads.find("c"), nullptr);
}

class ExpandTest : public ::testing::Test {
 protected:
  ExpandTest() {
    v1::SecretReference& secret = *container_.add_secrets();
    secret.set_secret_id("s");
    secret.mutable_file()->set_name("db_password");
    v1::ConfigReference& config = *container_.add_configs();
    config.set_config_id("c");
    config.mutable_file()->set_name("/etc/site");
    container_.add_env("MODE=fast=yes");
    container_.add_env("MODEL=x");
    set("s", "hunter2", false);
    set("c", "listen 80", true);
  }
  void set(const std::string& id, const std::string& data, bool config) {
    auto payload = std::make_shared<Payload>();
    payload->id = id;
    payload->name = "name-" + id;
    payload->data = data;
    payload->config = config;
    payloads_[id] = payload;
  }
  Result<std::string> expand(const std::string& text, bool config = true,
                             const std::string& driver = "golang") {
    Payload payload;
    payload.name = "tmpl";
    payload.config = config;
    payload.template_driver = driver;
    payload.data = text;
    return expand_payload(payload, container_, payloads_, TaskTemplateContext::dummy().to_json());
  }
  std::string message(const std::string& text, bool config = true) {
    const auto result = expand(text, config);
    return result ? "no error: " + *result : result.error().message();
  }

  v1::ContainerSpec container_;
  PayloadSet payloads_;
};

TEST_F(ExpandTest, ExpandsAsSwarmDoes) {
  EXPECT_EQ(*expand("{{.Service.Name}} {{.Task.Slot}} {{.Node.Hostname}}"), "service 1 node");
  EXPECT_EQ(*expand("pw={{secret \"db_password\"}}"), "pw=hunter2");
  EXPECT_EQ(*expand("{{config \"/etc/site\"}};"), "listen 80;");
  EXPECT_EQ(*expand("{{env \"MODE\"}}|{{env \"MOD\"}}|{{env \"MODEL\"}}"), "fast=yes||x");
  EXPECT_EQ(*expand("{{.Service.Name}}", true, ""), "{{.Service.Name}}")
      << "no driver, no template";
  std::string binary("\0\xff{{", 4);
  EXPECT_EQ(*expand(binary, false, ""), binary);
}

TEST_F(ExpandTest, WhatIsInsertedIsNotExpandedItself) {
  set("c", "{{.Service.Name}}", true);
  EXPECT_EQ(*expand("{{config \"/etc/site\"}}"), "{{.Service.Name}}");
}

TEST_F(ExpandTest, ErrorsNameThePlaceAndQuoteNoSecret) {
  EXPECT_NE(message("{{secret \"nope\"}}").find("secret target nope not found"), std::string::npos)
      << message("{{secret \"nope\"}}");
  EXPECT_NE(message("{{.Nope}}").find("config tmpl cannot be expanded: template line 1"),
            std::string::npos);
  EXPECT_NE(message("{{.Nope}}").find("no field .Nope"), std::string::npos);
  for (const std::string& text :
       {message("{{range secret \"db_password\"}}{{end}}"), message("{{.hunter2}}", false),
        message("{{with $x := secret \"db_password\"}}{{$x.y}}{{end}}"),
        message("{{secret (secret \"db_password\")}}")}) {
    EXPECT_EQ(text.find("hunter2"), std::string::npos) << text;
    EXPECT_NE(text.find("template line 1"), std::string::npos) << text;
  }
}

TEST_F(ExpandTest, GrowthHasALimit) {
  set("c", std::string(600'000, 'x'), true);
  const auto grown = expand("{{config \"/etc/site\"}}{{config \"/etc/site\"}}");
  EXPECT_EQ(grown.error().code(), StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace muster::agent
