#include "overlay/ipam/mtu.h"

#include <algorithm>
#include <charconv>

#include "overlay/ipam/network_options.h"

namespace muster::overlay {
namespace {

constexpr uint32_t kMtuMin = 68;  // RFC 791: every link carries that much
constexpr uint32_t kMtuMinV6 = 1280;
constexpr uint32_t kMtuMax = 65535;
constexpr uint32_t kMtuUnknown = 1500;
constexpr uint32_t kHeaderV4 = 20;
constexpr uint32_t kHeaderV6 = 40;
constexpr uint32_t kUdpVxlanEthernet = 8 + 8 + 14;

bool is_v6(const std::string& address) {
  return address.find(':') != std::string::npos;
}

// A loopback address reaches no other node: it says nothing of what comes when there is one, and
// containers keep what they began with.
bool knows_mtu(const v1::DataPath& path) {
  return path.mtu() != 0 && !path.address().starts_with("127.") && path.address() != "::1";
}

bool has_v6(const v1::NetworkSpec& spec) {
  return spec.ipv6() || std::any_of(spec.pools().begin(), spec.pools().end(),
                                    [](const v1::IpamPool& p) { return is_v6(p.subnet()); });
}

}  // namespace

void DataPathTally::add(const v1::Node& node) {
  const v1::DataPath& path = node.description().data_path();
  if (path.address().empty()) return;
  if (knows_mtu(path)) ++mtus_[path.mtu()];
  v6_ += is_v6(path.address()) ? 1 : 0;
}

void DataPathTally::remove(const v1::Node& node) {
  const v1::DataPath& path = node.description().data_path();
  if (path.address().empty()) return;
  const auto at = knows_mtu(path) ? mtus_.find(path.mtu()) : mtus_.end();
  if (at != mtus_.end() && --at->second == 0) mtus_.erase(at);
  v6_ -= is_v6(path.address()) ? 1 : 0;
}

DataPaths DataPathTally::get() const {
  return {mtus_.empty() ? 0 : mtus_.begin()->first, v6_ != 0};
}

Result<uint32_t> wanted_mtu(const v1::NetworkSpec& spec) {
  for (const auto& option : spec.driver_options()) {
    if (option.key() != kMtuOption) continue;
    uint32_t mtu = 0;
    const char* end = option.value().data() + option.value().size();
    const auto parsed = std::from_chars(option.value().data(), end, mtu);
    if (parsed.ec != std::errc() || parsed.ptr != end || mtu < kMtuMin || mtu > kMtuMax) {
      return fail(invalid_argument("MTU \"{}\" is not a number from {} to {} (option {})",
                                   option.value(), kMtuMin, kMtuMax, kMtuOption));
    }
    if (mtu < kMtuMinV6 && has_v6(spec)) {
      return fail(invalid_argument("MTU {} is too small: IPv6 needs at least {}", mtu, kMtuMinV6));
    }
    return mtu;
  }
  return 0;
}

bool is_encrypted(const v1::NetworkSpec& spec) {
  return std::any_of(spec.driver_options().begin(), spec.driver_options().end(),
                     [](const v1::KeyValue& option) {
                       return option.key() == kEncryptedOption && option.value() != "false" &&
                              option.value() != "0";
                     });
}

uint32_t uncut_mtu(const v1::NetworkSpec& spec, const DataPaths& paths) {
  const uint32_t path = paths.mtu == 0 ? kMtuUnknown : paths.mtu;
  const uint32_t header = paths.v6 ? kHeaderV6 : kHeaderV4;
  uint32_t around = header + kUdpVxlanEthernet;
  uint32_t room = path;
  if (is_encrypted(spec)) {
    // UDP, then ESP: its header and the nonce of AES-GCM before, the check value of 16 bytes
    // behind; between them UDP, VXLAN and the frame with two bytes of trailer, in words of four.
    const uint32_t esp = header + 8 + 8 + 8 + 16;
    room = path > esp ? (path - esp) / 4 * 4 : 0;
    around = 2 + kUdpVxlanEthernet;
  }
  return room > around ? std::min(room - around, kMtuMax) : 0;
}

uint32_t carried_mtu(const v1::NetworkSpec& spec, const DataPaths& paths) {
  return std::max(uncut_mtu(spec, paths), has_v6(spec) ? kMtuMinV6 : kMtuMin);
}

uint32_t overlay_mtu(const v1::NetworkSpec& spec, const DataPaths& paths) {
  if (!spec.driver().empty() && spec.driver() != "overlay") return 0;
  const auto wanted = wanted_mtu(spec);
  return wanted && *wanted != 0 ? *wanted : carried_mtu(spec, paths);
}

}  // namespace muster::overlay
