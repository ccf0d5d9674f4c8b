#include "overlay/ipam/network_options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "overlay/ipam/overlay_limits.h"

namespace muster::overlay {
namespace {

constexpr size_t kNamesMax = 5;

// What is meant by it more often than not.
constexpr std::string_view kShortMtu = "mtu";

bool is_known(std::string_view key) {
  return key == kMtuOption || key == kVniOption || key == kEncryptedOption;
}

}  // namespace

std::vector<std::string> idle_options(const v1::NetworkSpec& spec) {
  if (!is_overlay_driver(spec)) return {};
  std::vector<std::string> out;
  std::vector<std::string> unknown;
  for (const auto& option : spec.driver_options()) {
    if (option.key() == kShortMtu) {
      out.push_back(fmt::format("driver option \"{}\" has no effect: {} sets the MTU", kShortMtu,
                                kMtuOption));
    } else if (!is_known(option.key())) {
      unknown.push_back(fmt::format("\"{}\"", option.key()));
    }
  }
  if (unknown.empty()) return out;
  const size_t count = unknown.size();
  unknown.resize(std::min(count, kNamesMax));
  out.push_back(fmt::format(
      "driver option{} {}{} {} not known to driver overlay and {} no effect (known: {}, {}, {})",
      count > 1 ? "s" : "", fmt::join(unknown, ", "),
      count > kNamesMax ? fmt::format(" and {} more", count - kNamesMax) : "",
      count > 1 ? "are" : "is", count > 1 ? "have" : "has", kEncryptedOption, kMtuOption,
      kVniOption));
  return out;
}

}  // namespace muster::overlay
