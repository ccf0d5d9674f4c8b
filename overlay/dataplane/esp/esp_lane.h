#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "base/log.h"

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
