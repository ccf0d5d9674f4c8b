#include "agent/logs/log_plan.h"

#include <gtest/gtest.h>

#include "agent/logs/forward_format.h"

namespace muster::agent {
namespace {

v1::LogDriver driver(const std::string& name, const LogOptions& options = {}) {
  v1::LogDriver out;
  out.set_name(name);
  for (const auto& [key, value] : options) {
    v1::KeyValue& option = *out.add_options();
    option.set_key(key);
    option.set_value(value);
  }
  return out;
}

v1::KeyValue pair(const std::string& key, const std::string& value) {
  v1::KeyValue out;
  out.set_key(key);
  out.set_value(value);
  return out;
}

TEST(LogPlanTest, Drivers) {
  const char* no = "configured logging driver does not support reading";
  const struct {
    v1::LogDriver driver;
    std::string name;
    bool file, forwarded;
    std::string unreadable;
    uint64_t bytes_max;
    unsigned files_max;
  } cases[] = {
      {driver(""), "json-file", true, false, "", 0, 1},
      {driver("json-file", {{"max-size", "1k"}, {"max-file", "3"}}), "json-file", true, false, "",
       1024, 3},
      {driver("json-file", {{"max-size", "-1"}}), "json-file", true, false, "", 0, 1},
      {driver("local"), "local", true, false, "", 20 << 20, 5},
      {driver("local", {{"max-size", "1m"}, {"max-file", "2"}}), "local", true, false, "", 1 << 20,
       2},
      {driver("none"), "none", false, false, no, 0, 1},
      {driver("journald"), "journald", true, true, "", 20 << 20, 5},
      {driver("journald", {{"cache-max-size", "1m"}, {"cache-max-file", "1"}}), "journald", true,
       true, "", 1 << 20, 2},
      {driver("journald", {{"cache-disabled", "true"}}), "journald", true, true, no, 10 << 20, 5},
      {driver("syslog"), "syslog", true, true, no, 10 << 20, 5},
      {driver("syslog", {{"mode", "non-blocking"}, {"max-buffer-size", "5m"}}), "syslog", true,
       true, no, 1 << 20, 5},
  };
  for (const auto& c : cases) {
    const LogPlan plan = plan_log(c.driver);
    EXPECT_EQ(plan.driver, c.name);
    EXPECT_EQ(plan.file, c.file) << c.name;
    EXPECT_EQ(plan.forwarded, c.forwarded) << c.name;
    EXPECT_EQ(plan.unreadable, c.unreadable) << c.name;
    EXPECT_EQ(plan.bytes_max, c.bytes_max) << c.name;
    EXPECT_EQ(plan.files_max, c.files_max) << c.name;
  }
}

TEST(LogPlanTest, DefaultsOfClusterAndNode) {
  const v1::LogDriver node = driver("json-file", {{"max-size", "1m"}, {"max-file", "2"}});
  const auto text = [](const v1::LogDriver& d) {
    std::string out = d.name();
    for (const auto& option : d.options()) out += " " + option.key() + "=" + option.value();
    return out;
  };
  EXPECT_EQ(text(effective_log_driver({}, {}, {})), "json-file");
  EXPECT_EQ(text(effective_log_driver({}, {}, node)), "json-file max-file=2 max-size=1m");
  EXPECT_EQ(text(effective_log_driver(driver("", {{"max-size", "9m"}}), {}, node)),
            "json-file max-file=2 max-size=9m");
  EXPECT_EQ(text(effective_log_driver(driver("json-file", {{"max-size", "9m"}}), {}, node)),
            "json-file max-file=2 max-size=9m");
  EXPECT_EQ(text(effective_log_driver(driver("local"), {}, node)), "local");
  EXPECT_EQ(text(effective_log_driver({}, driver("local", {{"max-file", "7"}}), node)),
            "local max-file=7");
  EXPECT_EQ(text(effective_log_driver(driver("none"), driver("local"), node)), "none");
}

TEST(LogPlanTest, AttributesAndTag) {
  const std::vector<v1::KeyValue> labels = {pair("app", "shop"), pair("tier", "front")};
  const std::vector<std::string> env = {"A=1", "AB=2", "C=3", "D"};
  const auto chosen = log_attributes(
      driver("json-file", {{"labels", "tier,none"}, {"env", "C"}, {"env-regex", "^A"}}), labels,
      env);
  std::string text;
  for (const auto& one : chosen) text += one.key() + "=" + one.value() + " ";
  EXPECT_EQ(text, "A=1 AB=2 C=3 tier=front ");
  EXPECT_TRUE(log_attributes(driver("json-file"), labels, env).empty());
  const LogTagContext context{std::string(64, 'a'), "web.1.x", "sha256:0123456789abcdef", "img:1"};
  EXPECT_EQ(*log_tag(driver("syslog"), context), "aaaaaaaaaaaa");
  EXPECT_EQ(*log_tag(driver("syslog", {{"tag", "{{.Name}}/{{.ImageName}}/{{.ImageID}}"}}), context),
            "web.1.x/img:1/0123456789ab");
}

TEST(ForwardFormatTest, Syslog) {
  ::setenv("TZ", "UTC", 1);
  ForwardIdentity who;
  who.tag = "web";
  who.hostname = "host1";
  who.pid = 42;
  const LogLine line{1'769'846'700'123'456'789, false, "hello\n"};
  const LogLine wrong{1'769'846'700'123'456'789, true, "a\tb\x01"};
  EXPECT_EQ(syslog_message("", 3, who, line), "<30>Jan 31 08:05:00 web[42]: hello");
  EXPECT_EQ(syslog_message("rfc3164", 16, who, line), "<134>Jan 31 08:05:00 host1 web[42]: hello");
  EXPECT_EQ(syslog_message("rfc5424", 3, who, wrong),
            "<27>1 2026-01-31T08:05:00Z host1 web 42 web - a\tb\x01");
  EXPECT_EQ(syslog_message("rfc5424micro", 3, who, line),
            "<30>1 2026-01-31T08:05:00.123456Z host1 web 42 web - hello");
}

TEST(ForwardFormatTest, Journal) {
  ForwardIdentity who;
  who.container_id = std::string(64, 'b');
  who.name = "web.1.x";
  who.image = "img";
  who.tag = "tag";
  who.attributes = {pair("com.example/a-b", "v"), pair("9_x", "two\nlines")};
  const std::string entry = journal_entry(who, {1, true, "hello\n"});
  for (const char* part : {"MESSAGE=hello\n", "PRIORITY=3\n", "CONTAINER_ID=bbbbbbbbbbbb\n",
                           "CONTAINER_NAME=web.1.x\n", "CONTAINER_TAG=tag\n",
                           "SYSLOG_IDENTIFIER=tag\n", "IMAGE_NAME=img\n", "COM_EXAMPLE_A_B=v\n"}) {
    EXPECT_NE(entry.find(part), std::string::npos) << part;
  }
  EXPECT_NE(entry.find(std::string("X\n\x09\0\0\0\0\0\0\0two\nlines\n", 20)), std::string::npos);
  EXPECT_EQ(entry.find("CONTAINER_PARTIAL_MESSAGE"), std::string::npos);
  EXPECT_NE(journal_entry(who, {1, false, "piece"}).find("CONTAINER_PARTIAL_MESSAGE=true\n"),
            std::string::npos);
}

}  // namespace
}  // namespace muster::agent
