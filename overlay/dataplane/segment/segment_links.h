#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "overlay/dataplane/kernel/netlink.h"
#include "overlay/dataplane/segment/segment_plan.h"
#include "overlay/ipam/ip.h"

namespace muster::overlay {

inline constexpr const char* kSegmentBridge = "br0";
inline constexpr const char* kSegmentTunnel = "vx0";

// Where a tunnel stands.
struct TunnelSpec {
  uint32_t vni = 0;
  Ip local;
  uint16_t port = 0;

  friend bool operator==(const TunnelSpec&, const TunnelSpec&) = default;
};

// How a VXLAN device handles packets, beside where it stands: by IFLA_VXLAN_ attribute, as far as
// the kernel tells of it. Of attributes that are there or not, 1 or 0.
using TunnelTraits = std::map<int, uint32_t>;

// A device in a segment's namespace.
struct SegmentDevice {
  int index = 0;
  std::string name;
  std::string alias;
  int master = 0;
  bool up = false;
  uint32_t mtu = 0;
  std::optional<TunnelSpec> tunnel;  // of VXLAN devices
  TunnelTraits traits;               // of VXLAN devices
  // Of a bridge's port: as a tunnel's has to be: nothing flooded to it or learnt from it, requests
  // for known neighbours answered and kept from it.
  bool quiet = false;
};

// A bridge without address that has no VLANs: every static entry would be there once for each. Its
// MTU is to be set after it.
Message new_segment_bridge(uint32_t mtu);
// To be sent on a socket of the underlay's namespace, where the device's UDP socket will be; the
// device itself appears in the other one, down.
Message new_segment_tunnel(const TunnelSpec& spec, uint32_t mtu, int namespace_fd);
// What differs of a tunnel's traits from those that new_segment_tunnel() gives, in words ("learning
// was 1, now 0"). Pure.
struct TunnelTraitsMending {
  std::vector<std::string> said;
  // Makes them right on the live device; none: the kernel cannot change some of them, and the
  // device has to be made anew (vxlan_changelink() of Linux says which).
  std::optional<Message> request;
};
TunnelTraitsMending mend_traits(int index, const Ip& local, const TunnelTraits& now);
// The same for examinations: with this address, and what it sends is never cut to pieces. Only
// devices of one kind share a UDP socket.
Message new_probe_tunnel(const TunnelSpec& spec, uint32_t mtu, int namespace_fd, const Mac& self);
Message set_master(int index, int master);
Message set_mtu(int index, uint32_t mtu);
// Makes a bridge's port what SegmentDevice::quiet says.
Message set_quiet(int index);
Message entry_message(const EntryChange& change, int bridge, int tunnel);

Result<std::vector<SegmentDevice>> list_segment_devices(NetlinkSocket& socket);
// nullptr: none of that name.
const SegmentDevice* find_device(const std::vector<SegmentDevice>& devices, std::string_view name);
// The permanent neighbours of the bridge, and what leads to the tunnel; `tunnel` may be 0.
Result<KernelEntries> list_segment_entries(NetlinkSocket& socket, int bridge, int tunnel);

}  // namespace muster::overlay
