#include "agent/worker/health_monitor.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace muster::agent {
namespace {

// Of a probe's output, in the reason of a task's end. What the probe itself has to say comes first.
constexpr size_t kReasonHeadMax = 80;
constexpr size_t kReasonTailMax = 200;

Duration or_default(int64_t ns, int64_t image_ns, Duration otherwise) {
  if (ns > 0) return Duration(ns);
  if (image_ns > 0) return Duration(image_ns);
  return otherwise;
}

std::vector<std::string> command_of(const google::protobuf::RepeatedPtrField<std::string>& test,
                                    const google::protobuf::RepeatedPtrField<std::string>& shell) {
  std::vector<std::string> out;
  if (test.size() < 2) return out;
  if (test.Get(0) == "CMD-SHELL") {
    out.assign(shell.begin(), shell.end());
    if (out.empty()) out = {"/bin/sh", "-c"};
  } else if (test.Get(0) != "CMD") {
    return out;
  }
  out.insert(out.end(), test.begin() + 1, test.end());
  return out;
}

bool continues(char c) {
  return (static_cast<unsigned char>(c) & 0xc0) == 0x80;
}

// Bytes of the character at the front of `text`; 0 when it is none.
size_t character_size(std::string_view text) {
  const auto first = static_cast<unsigned char>(text[0]);
  if (first < 0x80) return 1;
  const size_t size = first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
  if (size == 0 || text.size() < size) return 0;
  for (size_t i = 1; i < size; ++i) {
    if (!continues(text[i])) return 0;
  }
  const auto second = static_cast<unsigned char>(text[1]);
  // Overlong forms, surrogates, and what is above U+10FFFF.
  if ((first == 0xe0 && second < 0xa0) || (first == 0xed && second >= 0xa0) ||
      (first == 0xf0 && second < 0x90) || (first == 0xf4 && second >= 0x90)) {
    return 0;
  }
  return size;
}

std::string_view tail(std::string_view text, size_t bytes_max) {
  if (text.size() > bytes_max) text.remove_prefix(text.size() - bytes_max);
  return text;
}

// Without the rest of a character that was cut.
std::string_view whole(std::string_view text) {
  for (int i = 0; i < 3 && !text.empty() && continues(text[0]); ++i) text.remove_prefix(1);
  return text;
}

std::string output_of(const HealthResult& result) {
  constexpr size_t kMax = HealthMonitor::kOutputBytesMax;
  if (result.trouble.empty()) return utf8_tail(result.output, kMax);
  std::string out = utf8_tail(result.trouble, kMax / 2);
  if (!result.output.empty()) out += ": " + utf8_tail(result.output, kMax - out.size() - 2);
  return out;
}

}  // namespace

std::optional<HealthPlan> plan_health(
    const v1::HealthCheck& spec, const v1::HealthCheck& image,
    const google::protobuf::RepeatedPtrField<std::string>& shell) {
  HealthPlan plan;
  plan.command = command_of(spec.test_size() > 0 ? spec.test() : image.test(), shell);
  if (plan.command.empty()) return std::nullopt;
  plan.interval = or_default(spec.interval_ns(), image.interval_ns(), plan.interval);
  plan.timeout = or_default(spec.timeout_ns(), image.timeout_ns(), plan.timeout);
  plan.start_period =
      or_default(spec.start_period_ns(), image.start_period_ns(), plan.start_period);
  plan.start_interval =
      or_default(spec.start_interval_ns(), image.start_interval_ns(), plan.start_interval);
  if (image.retries() > 0) plan.retries = image.retries();
  if (spec.retries() > 0) plan.retries = spec.retries();
  return plan;
}

HealthMonitor::HealthMonitor(HealthPlan plan, TimePoint started, v1::Health known)
    : plan_(std::move(plan)), started_(started), health_(std::move(known)) {
  if (health_.state() == v1::Health::NONE) health_.set_state(v1::Health::STARTING);
}

bool HealthMonitor::starting(TimePoint at) const {
  return health_.state() == v1::Health::STARTING && at - started_ < plan_.start_period;
}

Duration HealthMonitor::next_delay(TimePoint now) const {
  if (!starting(now)) return plan_.interval;
  return std::min(plan_.start_interval, plan_.start_period - (now - started_));
}

bool HealthMonitor::probed(const HealthResult& result, TimePoint began, WallTime began_at,
                           WallTime ended_at) {
  const bool first = health_.probes().empty();
  const v1::Health::State state_before = health_.state();
  const uint32_t streak_before = health_.failing_streak();
  if (health_.probes_size() >= kProbesKept) {
    health_.mutable_probes()->DeleteSubrange(0, health_.probes_size() + 1 - kProbesKept);
  }
  v1::Health::Probe& probe = *health_.add_probes();
  probe.set_started_at_ns(began_at.unix_ns);
  probe.set_ended_at_ns(ended_at.unix_ns);
  probe.set_exit_code(result.exit_code);
  probe.set_output(output_of(result));
  if (result.exit_code == 0) {
    health_.set_failing_streak(0);
    health_.set_state(v1::Health::HEALTHY);
  } else if (!starting(began)) {
    health_.set_failing_streak(streak_before + 1);
    if (static_cast<int64_t>(health_.failing_streak()) >= plan_.retries) {
      health_.set_state(v1::Health::UNHEALTHY);
    }
  }
  return health_.state() != state_before || health_.failing_streak() != streak_before ||
         (first && result.exit_code != 0);
}

std::string describe_last_probe(const v1::Health& health) {
  if (health.probes().empty()) return "health check failed";
  const v1::Health::Probe& last = health.probes(health.probes_size() - 1);
  const size_t head = last.exit_code() < 0 ? kReasonHeadMax : 0;
  const std::string output = one_line(last.output(), head, kReasonTailMax);
  if (last.exit_code() < 0) return output.empty() ? "health check failed" : output;
  std::string out = fmt::format("health check failed with exit code {}", last.exit_code());
  if (!output.empty()) out += ": " + output;
  return out;
}

std::string utf8_tail(std::string_view bytes, size_t bytes_max) {
  const bool cut = bytes.size() > bytes_max;
  bytes = tail(bytes, bytes_max);
  if (cut) bytes = whole(bytes);
  std::string out;
  out.reserve(bytes.size());
  while (!bytes.empty()) {
    const size_t size = character_size(bytes);
    out += size == 0 ? std::string_view("\xef\xbf\xbd") : bytes.substr(0, size);
    bytes.remove_prefix(std::max<size_t>(size, 1));
  }
  // The replacements are longer than what they replace.
  return out.size() <= bytes_max ? out : std::string(whole(tail(out, bytes_max)));
}

std::string one_line(std::string_view text, size_t head_max, size_t tail_max) {
  std::string line;
  for (const char c : text) {
    const bool blank = static_cast<unsigned char>(c) <= ' ' || c == '\x7f';
    if (!blank) {
      line.push_back(c);
    } else if (!line.empty() && line.back() != ' ') {
      line.push_back(' ');
    }
  }
  if (!line.empty() && line.back() == ' ') line.pop_back();
  if (line.size() <= head_max + tail_max) return line;
  size_t head = head_max;
  while (head > 0 && continues(line[head])) --head;
  return line.substr(0, head) + "..." + std::string(whole(tail(line, tail_max)));
}

}  // namespace muster::agent
