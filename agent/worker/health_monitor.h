#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/time.h"
#include "muster/v1/objects.pb.h"
#include "muster/v1/specs.pb.h"

namespace muster::agent {

// What one run of a check's command gave.
struct HealthResult {
  int exit_code = 0;    // -1: it did not end by itself, or could not be started
  std::string output;   // what it printed, any bytes; at least the last 4 KiB
  std::string trouble;  // with -1: why, in words; comes before the output
  bool gone = false;    // the container has ended meanwhile: this says nothing of its health
};

// Runs a health check's command in a container. Blocks up to the time-out; thread-safe.
class HealthProbe {
 public:
  virtual ~HealthProbe() = default;
  // A command that runs longer is killed with everything it has started.
  virtual HealthResult run(const std::string& container_id, const std::string& bundle_dir,
                           const std::vector<std::string>& command, Duration timeout) = 0;
};

// A service's health check, the image's where the spec has none, with Docker's defaults filled in.
struct HealthPlan {
  std::vector<std::string> command;
  Duration interval = 30s;
  Duration timeout = 30s;
  Duration start_period{0};
  Duration start_interval = 5s;
  int retries = 3;
};
// Nothing when there is no check, it is disabled (["NONE"]) or of a kind Docker ignores, too.
// `shell` is the image's, for CMD-SHELL; empty = /bin/sh -c.
std::optional<HealthPlan> plan_health(const v1::HealthCheck& spec, const v1::HealthCheck& image,
                                      const google::protobuf::RepeatedPtrField<std::string>& shell);

// Docker's rule, as a pure function of probe results: one success makes healthy; `retries`
// failures in a row make unhealthy, of which those that began within the start period do not count
// as long as there was no success.
class HealthMonitor {
 public:
  static constexpr int kProbesKept = 5;
  static constexpr size_t kOutputBytesMax = 4096;

  // `known` is what an earlier process has found of the same container.
  HealthMonitor(HealthPlan plan, TimePoint started, v1::Health known = {});

  // When the next probe is due, counted from the end of the last one or from the start. Within the
  // start period it comes sooner, and the first one that counts comes when the period is over.
  Duration next_delay(TimePoint now) const;
  // A probe that began at `began`. True when it is news: the state or the failing streak has
  // changed, or it is the first and has failed.
  bool probed(const HealthResult& result, TimePoint began, WallTime began_at, WallTime ended_at);

  const v1::Health& health() const { return health_; }
  const HealthPlan& plan() const { return plan_; }

 private:
  bool starting(TimePoint at) const;

  HealthPlan plan_;
  TimePoint started_;
  v1::Health health_;
};

// What the last probe found, in one line for people: "health check failed with exit code 7: ...".
std::string describe_last_probe(const v1::Health& health);

// The end of `bytes` as UTF-8 of at most `bytes_max` bytes; what is none is U+FFFD.
std::string utf8_tail(std::string_view bytes, size_t bytes_max);
// A text of UTF-8 in one line: runs of space, line ends and control characters are one space each.
// Of a longer one about so many bytes of its beginning and its end, with "..." between.
std::string one_line(std::string_view text, size_t head_max, size_t tail_max);

}  // namespace muster::agent
