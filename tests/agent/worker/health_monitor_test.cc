#include "agent/worker/health_monitor.h"

#include <gtest/gtest.h>

#include <fmt/format.h>

#include <string>
#include <vector>

namespace muster::agent {
namespace {

using Words = std::vector<std::string>;

v1::HealthCheck check(const Words& test) {
  v1::HealthCheck out;
  for (const std::string& word : test) out.add_test(word);
  return out;
}

Words command(const Words& spec, const Words& image, const Words& shell = {}) {
  google::protobuf::RepeatedPtrField<std::string> words(shell.begin(), shell.end());
  const auto plan = plan_health(check(spec), check(image), words);
  return plan ? plan->command : Words();
}

TEST(PlanHealth, WhoseCommandRunsAndHow) {
  const Words none;
  EXPECT_EQ(command({"CMD", "a", "b c"}, {}), (Words{"a", "b c"}));
  EXPECT_EQ(command({"CMD-SHELL", "a | b"}, {}), (Words{"/bin/sh", "-c", "a | b"}));
  EXPECT_EQ(command({"CMD-SHELL", "a"}, {}, {"/bin/bash", "-ec"}),
            (Words{"/bin/bash", "-ec", "a"}));
  EXPECT_EQ(command({}, {"CMD", "image"}), (Words{"image"}));
  EXPECT_EQ(command({"CMD", "own"}, {"CMD", "image"}), (Words{"own"}));
  EXPECT_EQ(command({"NONE"}, {"CMD", "image"}), none);
  EXPECT_EQ(command({}, {"NONE"}), none);
  EXPECT_EQ(command({}, {}), none);
  EXPECT_EQ(command({"CMD"}, {}), none);
  EXPECT_EQ(command({"CMD-SHELL"}, {}), none);
  // Docker logs a warning and checks nothing.
  EXPECT_EQ(command({"curl", "-f", "http://localhost"}, {"CMD", "image"}), none);
}

TEST(PlanHealth, EachValueIsTheServicesThenTheImagesThenDockers) {
  v1::HealthCheck spec = check({"CMD", "x"});
  v1::HealthCheck image = check({"CMD", "y"});
  const auto plain = plan_health(spec, {}, {});
  ASSERT_TRUE(plain.has_value());
  EXPECT_EQ(plain->interval, 30s);
  EXPECT_EQ(plain->timeout, 30s);
  EXPECT_EQ(plain->start_period, 0s);
  EXPECT_EQ(plain->start_interval, 5s);
  EXPECT_EQ(plain->retries, 3);
  image.set_interval_ns(Duration(7s).count());
  image.set_timeout_ns(Duration(8s).count());
  image.set_retries(9);
  spec.set_timeout_ns(Duration(2s).count());
  spec.set_start_period_ns(Duration(3s).count());
  spec.set_start_interval_ns(Duration(1s).count());
  const auto mixed = plan_health(spec, image, {});
  ASSERT_TRUE(mixed.has_value());
  EXPECT_EQ(mixed->interval, 7s);
  EXPECT_EQ(mixed->timeout, 2s);
  EXPECT_EQ(mixed->start_period, 3s);
  EXPECT_EQ(mixed->start_interval, 1s);
  EXPECT_EQ(mixed->retries, 9);
}

// Runs a check in virtual time: `results` are the exit codes of the probes, each of which takes
// `takes`. One word per probe: when it began, the state and streak after it, "!" for news.
std::string story(const HealthPlan& plan, const std::vector<int>& results, Duration takes = 0s,
                  v1::Health known = {}) {
  HealthMonitor monitor(plan, TimePoint{}, std::move(known));
  TimePoint now{};
  std::string out;
  for (const int code : results) {
    const TimePoint began = now + monitor.next_delay(now);
    now = began + takes;
    const bool news =
        monitor.probed({code, "", "", false}, began, WallTime{began.since_start.count()},
                       WallTime{now.since_start.count()});
    const v1::Health& health = monitor.health();
    const char state = "-shu"[health.state()];
    out += fmt::format("{}{}:{}{}{}", out.empty() ? "" : " ", format_duration(began.since_start),
                       state, health.failing_streak(), news ? "!" : "");
  }
  return out;
}

TEST(HealthMonitor, DockersRuleInVirtualTime) {
  HealthPlan plan;
  plan.interval = 10s;
  plan.retries = 3;
  // Without a start period every failure counts; a success begins the count anew.
  EXPECT_EQ(story(plan, {0, 0, 0}), "10s:h0! 20s:h0 30s:h0");
  EXPECT_EQ(story(plan, {1, 1, 1}), "10s:s1! 20s:s2! 30s:u3!");
  EXPECT_EQ(story(plan, {0, 1, 1, 0, 1, 1, 1}),
            "10s:h0! 20s:h1! 30s:h2! 40s:h0! 50s:h1! 1m0s:h2! 1m10s:u3!");
  EXPECT_EQ(story(plan, {1, 0}), "10s:s1! 20s:h0!");
  // The interval is between the end of one probe and the begin of the next.
  EXPECT_EQ(story(plan, {0, 0}, 4s), "10s:h0! 24s:h0");
  // A probe that could not run has failed like any other.
  EXPECT_EQ(story(plan, {-1, -1, -1}), "10s:s1! 20s:s2! 30s:u3!");
  plan.retries = 1;
  EXPECT_EQ(story(plan, {0, 1}), "10s:h0! 20s:u1!");
}

TEST(HealthMonitor, TheStartPeriodForgives) {
  HealthPlan plan;
  plan.interval = 10s;
  plan.retries = 2;
  plan.start_period = 12s;
  plan.start_interval = 5s;
  // Failures within it do not count and are no news but for the first; it ends with a probe.
  EXPECT_EQ(story(plan, {1, 1, 1, 1}), "5s:s0! 10s:s0 12s:s1! 22s:u2!");
  // With the first success it is over: the long interval, and failures count.
  EXPECT_EQ(story(plan, {0, 1, 1}), "5s:h0! 15s:h1! 25s:u2!");
  EXPECT_EQ(story(plan, {1, 0, 1, 1}), "5s:s0! 10s:h0! 20s:h1! 30s:u2!");
  // What counts is when a probe began, not when it ended.
  EXPECT_EQ(story(plan, {1, 1, 1}, 4s), "5s:s0! 12s:s1! 26s:u2!");
  // A start interval longer than the period does not make the first probe late.
  plan.start_interval = 60s;
  EXPECT_EQ(story(plan, {1, 1}), "12s:s1! 22s:u2!");
}

TEST(HealthMonitor, GoesOnFromWhatIsKnown) {
  HealthPlan plan;
  plan.interval = 10s;
  plan.start_period = 60s;
  v1::Health known;
  known.set_state(v1::Health::HEALTHY);
  known.set_failing_streak(2);
  // Healthy once, so the start period is over, and the streak has two already.
  EXPECT_EQ(story(plan, {1}, 0s, known), "10s:u3!");
  EXPECT_EQ(story(plan, {0}, 0s, known), "10s:h0!");
}

TEST(HealthMonitor, KeepsTheLastFiveProbes) {
  HealthMonitor monitor({}, TimePoint{});
  for (int i = 1; i <= 7; ++i) {
    monitor.probed({i, fmt::format("out {}", i), "", false}, TimePoint{}, WallTime{i},
                   WallTime{i + 1});
  }
  ASSERT_EQ(monitor.health().probes_size(), 5);
  EXPECT_EQ(monitor.health().probes(0).output(), "out 3");
  EXPECT_EQ(monitor.health().probes(4).exit_code(), 7);
  EXPECT_EQ(monitor.health().probes(4).started_at_ns(), 7);
  EXPECT_EQ(monitor.health().probes(4).ended_at_ns(), 8);
}

TEST(HealthOutput, IsTheEndAndAlwaysText) {
  EXPECT_EQ(utf8_tail("abc", 4096), "abc");
  EXPECT_EQ(utf8_tail("0123456789", 4), "6789");
  EXPECT_EQ(utf8_tail("a\xc3\xa4", 4096), "a\xc3\xa4");
  // Cut inside of a character: the rest of it goes.
  EXPECT_EQ(utf8_tail("\xe2\x82\xac"
                      "b",
                      3),
            "b");
  EXPECT_EQ(utf8_tail("\xff"
                      "a\xc3",
                      4096),
            "\xef\xbf\xbd"
            "a\xef\xbf\xbd");
  for (const char* bad : {"\x80", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80",
                          "\xf5\x80\x80\x80", "\xe0\x80\x80", "\xf0\x80\x80\x80"}) {
    const std::string out = utf8_tail(bad, 4096);
    EXPECT_EQ(out.size(), 3 * std::string(bad).size()) << out;
  }
  // Replacements make it longer; the bound holds nevertheless, at a whole character.
  const std::string noise = utf8_tail(std::string(10'000, '\xff'), 4096);
  EXPECT_EQ(noise.size(), 4095u);
  v1::Health::Probe probe;
  probe.set_output(utf8_tail(std::string("\x00\x01\xfe tail", 8), 4096));
  EXPECT_TRUE(v1::Health::Probe().ParseFromString(probe.SerializeAsString()));
}

TEST(HealthOutput, InOneLine) {
  EXPECT_EQ(one_line("  a\r\n\tb \x1b[0m c\n\n", 0, 100), "a b [0m c");
  EXPECT_EQ(one_line("", 0, 100), "");
  EXPECT_EQ(one_line("0123456789", 0, 4), "...6789");
  EXPECT_EQ(one_line("0123456789", 2, 4), "01...6789");
  EXPECT_EQ(one_line("0123456789", 6, 4), "0123456789");
  EXPECT_EQ(one_line("\xe2\x82\xac\xe2\x82\xac", 1, 4), "...\xe2\x82\xac");
}

// However much a command says: that it was killed, and why, is not lost.
TEST(HealthOutput, TheTroubleComesFirst) {
  HealthMonitor monitor({}, TimePoint{});
  monitor.probed(
      {-1, std::string(10'000, 'x') + "END", "health check exceeded timeout (2s)", false},
      TimePoint{}, WallTime{1}, WallTime{2});
  const std::string& output = monitor.health().probes(0).output();
  EXPECT_EQ(output.size(), 4096u);
  EXPECT_TRUE(output.starts_with("health check exceeded timeout (2s): xxx"));
  EXPECT_TRUE(output.ends_with("xEND"));
  const std::string reason = describe_last_probe(monitor.health());
  EXPECT_TRUE(reason.starts_with("health check exceeded timeout (2s): xxx")) << reason;
  EXPECT_TRUE(reason.ends_with("xEND")) << reason;
  EXPECT_LT(reason.size(), 300u);
}

TEST(HealthOutput, ReasonsOfFailedProbes) {
  const auto reason = [](int code, const std::string& output) {
    v1::Health health;
    v1::Health::Probe& probe = *health.add_probes();
    probe.set_exit_code(code);
    probe.set_output(output);
    return describe_last_probe(health);
  };
  EXPECT_EQ(reason(1, ""), "health check failed with exit code 1");
  EXPECT_EQ(reason(7, "curl: (7)\nrefused\n"),
            "health check failed with exit code 7: curl: (7) refused");
  EXPECT_EQ(reason(-1, "health check exceeded timeout (2s)"), "health check exceeded timeout (2s)");
  EXPECT_EQ(describe_last_probe({}), "health check failed");
  EXPECT_LT(reason(1, std::string(4096, 'x')).size(), 260u);
}

}  // namespace
}  // namespace muster::agent
