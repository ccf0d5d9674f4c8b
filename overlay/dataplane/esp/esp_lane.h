#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "base/log.h"
#include "base/time.h"

namespace muster::overlay {

// The lane (esp_plan.h) that a host begins to send in: another one each time its kernel has lost
// count of what was sent, so that nobody takes its packets for replays, and no number is used twice
// with one key.

// What is known of it: since which start of the host, and the lane.
struct EspLane {
  std::string boot_id;
  uint32_t lane = 0;

  friend bool operator==(const EspLane&, const EspLane&) = default;
};
std::string format_esp_lane(const EspLane& lane);
// nullopt: it cannot be read.
std::optional<EspLane> parse_esp_lane(std::string_view text);
// The lane since this start of the host: the same while it runs, the next one after another start;
// where nothing is known any one, the same for the same `boot_id`. Pure.
EspLane lane_since(const std::optional<EspLane>& known, const std::string& boot_id);

// The number above which a state that is made at this time begins to count, where nothing is known
// of what was sent in its lane before: 4,096 a second, below 2^30, hence from 0 again every 72.8 h.
// So a lane that comes again with the same key, after kEspLanes starts of the host or when the file
// is gone, begins above what was sent in it then, unless more was sent a second, the count began
// again in between, or the clock was set back. Receivers take it in whatever they have counted to,
// and a new one, too, since it is less than 2^32 (RFC 4303, appendix A).
// Pure.
uint64_t first_number(WallTime now);

// Keeps it in a file of the node's data, from the first time that it is asked for. Not thread-safe.
class EspLaneFile {
 public:
  // Without a path nothing is kept.
  EspLaneFile(std::filesystem::path path, std::string boot_id, Log log)
      : path_(std::move(path)), boot_id_(std::move(boot_id)), log_(std::move(log)) {}

  // On disk before it returns.
  uint32_t lane();
  // What the kernel counted is gone, though the host runs on: the next one from now on.
  void pass_on();

 private:
  void keep(const EspLane& lane);

  const std::filesystem::path path_;
  const std::string boot_id_;
  Log log_;
  std::optional<EspLane> known_;
};

// Of this start of the host; empty where the kernel does not tell.
std::string host_boot_id();

}  // namespace muster::overlay
