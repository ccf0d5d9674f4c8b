#include "overlay/dataplane/esp/esp_lane.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <functional>

#include "base/file.h"
#include "overlay/dataplane/esp/esp_plan.h"

namespace muster::overlay {
namespace {

constexpr size_t kFileMax = 256;
constexpr uint64_t kNumbersPerSecond = 4096;
constexpr uint64_t kNumbersBelow = uint64_t{1} << 30;

}  // namespace

std::string format_esp_lane(const EspLane& lane) {
  return fmt::format("{} {}\n", lane.boot_id, lane.lane);
}

std::optional<EspLane> parse_esp_lane(std::string_view text) {
  if (text.ends_with('\n')) text.remove_suffix(1);
  const size_t blank = text.find(' ');
  if (blank == std::string_view::npos) return std::nullopt;
  EspLane out{std::string(text.substr(0, blank)), 0};
  const std::string_view digits = text.substr(blank + 1);
  const auto read = std::from_chars(digits.data(), digits.data() + digits.size(), out.lane);
  if (read.ec != std::errc() || read.ptr != digits.data() + digits.size()) return std::nullopt;
  if (out.lane >= kEspLanes) return std::nullopt;
  return out;
}

EspLane lane_since(const std::optional<EspLane>& known, const std::string& boot_id) {
  if (!known) {
    return {boot_id, static_cast<uint32_t>(std::hash<std::string>()(boot_id) % kEspLanes)};
  }
  // A kernel that does not tell when it began may have begun anew.
  if (known->boot_id == boot_id && !boot_id.empty()) return *known;
  return {boot_id, (known->lane + 1) % kEspLanes};
}

uint64_t first_number(WallTime now) {
  // Until the year 2112 it does not overflow.
  const uint64_t microseconds = static_cast<uint64_t>(std::max<int64_t>(now.unix_ns, 0)) / 1000;
  return microseconds * kNumbersPerSecond / 1'000'000 % kNumbersBelow;
}

uint32_t EspLaneFile::lane() {
  if (known_) return known_->lane;
  std::optional<EspLane> before;
  if (!path_.empty()) {
    const auto text = read_file(path_, kFileMax);
    if (text) before = parse_esp_lane(*text);
    if ((text && !before) || (!text && text.error().code() != StatusCode::kNotFound)) {
      log_->warn(
          "{} cannot be read{}: if this node was started anew and its clock was set back, nodes "
          "may take what it sends in encrypted networks for replays until the next key",
          path_.string(), text ? "" : ": " + text.error().message());
    }
  }
  known_ = lane_since(before, boot_id_);
  if (known_ != before) keep(*known_);
  return known_->lane;
}

void EspLaneFile::pass_on() {
  known_ = EspLane{boot_id_, (lane() + 1) % kEspLanes};
  keep(*known_);
}

void EspLaneFile::keep(const EspLane& lane) {
  if (path_.empty()) return;
  const Status kept = write_file_atomic(path_, format_esp_lane(lane), 0600, Durability::kFsync);
  if (!kept.ok()) {
    log_->warn("the lane of encrypted networks is not remembered beyond a start of the host: {}",
               kept.message());
  }
}

std::string host_boot_id() {
  std::string id = read_file("/proc/sys/kernel/random/boot_id", kFileMax).value_or("");
  while (!id.empty() && id.back() == '\n') id.pop_back();
  return id;
}

}  // namespace muster::overlay
