#include "overlay/dataplane/segment/segment_links.h"

#include <arpa/inet.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netlink/attr.h>
#include <netlink/msg.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "overlay/dataplane/kernel/wire.h"

namespace muster::overlay {
namespace {

// All bridges of segments have this one. No frame of a bridge without address carries it.
constexpr Mac kBridgeMac{0x0e, 0x6d, 0x75, 0x73, 0x74, 0x72};

const nlattr* inner(const nlattr* nest, int type) {
  if (nest == nullptr) return nullptr;
  return nla_find(static_cast<const nlattr*>(nla_data(nest)), nla_len(nest), type);
}

bool flag(const nlattr* data, int type) {
  const nlattr* found = inner(data, type);
  return found != nullptr && nla_get_u8(found) != 0;
}

// A trait of tunnels, named as `ip -d link` does, and what a segment's has.
struct Trait {
  int type;
  const char* name;
  size_t bytes;  // of its value; 0: it is there or not
  uint32_t wanted;
  bool live;  // can be changed on a device that is there
};

// What is not asked for when a tunnel is made is the kernel's own default.
std::vector<Trait> traits_of(bool v6) {
  const uint32_t no_checksum = v6 ? 1 : 0;
  return {
      {IFLA_VXLAN_LEARNING, "learning", 1, 0, true},
      {IFLA_VXLAN_UDP_CSUM, "udpcsum", 1, 1, false},
      // The frames inside have checksums of their own.
      {IFLA_VXLAN_UDP_ZERO_CSUM6_TX, "udp6zerocsumtx", 1, no_checksum, false},
      {IFLA_VXLAN_UDP_ZERO_CSUM6_RX, "udp6zerocsumrx", 1, no_checksum, false},
      {IFLA_VXLAN_TTL, "ttl", 1, 0, true},
      {IFLA_VXLAN_TTL_INHERIT, "ttl inherit", 1, 0, false},
      {IFLA_VXLAN_TOS, "tos", 1, 0, true},
      {IFLA_VXLAN_DF, "df", 1, VXLAN_DF_UNSET, true},
      {IFLA_VXLAN_LABEL, "flowlabel", 4, 0, true},
      {IFLA_VXLAN_PORT_RANGE, "srcport", 4, 0, false},
      {IFLA_VXLAN_LIMIT, "maxaddr", 4, 0, false},
      {IFLA_VXLAN_PROXY, "proxy", 1, 0, false},
      {IFLA_VXLAN_RSC, "rsc", 1, 0, false},
      {IFLA_VXLAN_L2MISS, "l2miss", 1, 0, false},
      {IFLA_VXLAN_L3MISS, "l3miss", 1, 0, false},
      {IFLA_VXLAN_COLLECT_METADATA, "external", 1, 0, false},
      {IFLA_VXLAN_REMCSUM_TX, "remcsumtx", 1, 0, false},
      {IFLA_VXLAN_REMCSUM_RX, "remcsumrx", 1, 0, false},
      // A node that everything goes to which no entry leads elsewhere, and an interface to send by.
      {IFLA_VXLAN_GROUP, "remote", 0, 0, false},
      {IFLA_VXLAN_GROUP6, "remote", 0, 0, false},
      {IFLA_VXLAN_LINK, "dev", 0, 0, false},
      {IFLA_VXLAN_GBP, "gbp", 0, 0, false},
      {IFLA_VXLAN_GPE, "gpe", 0, 0, false},
  };
}

// What it does not tell of, a kernel does not have.
TunnelTraits read_traits(const nlattr* data) {
  TunnelTraits out;
  for (const Trait& trait : traits_of(false)) {
    const nlattr* found = inner(data, trait.type);
    if (trait.bytes == 0) {
      out[trait.type] = found != nullptr ? 1 : 0;
    } else if (found != nullptr) {
      out[trait.type] = trait.bytes == 1 ? nla_get_u8(found) : nla_get_u32(found);
    }
  }
  return out;
}

std::optional<Mac> mac_at(const nlattr* attribute) {
  Mac mac{};
  if (attribute == nullptr || nla_len(attribute) != static_cast<int>(mac.size())) {
    return std::nullopt;
  }
  std::memcpy(mac.data(), nla_data(attribute), mac.size());
  return mac;
}

ifinfomsg link_header(int index, bool up = false) {
  ifinfomsg info{};
  info.ifi_family = AF_UNSPEC;
  info.ifi_index = index;
  if (up) info.ifi_flags = info.ifi_change = IFF_UP;
  return info;
}

std::optional<TunnelSpec> read_tunnel(const nlattr* data) {
  const nlattr* vni = inner(data, IFLA_VXLAN_ID);
  const nlattr* port = inner(data, IFLA_VXLAN_PORT);
  if (vni == nullptr || port == nullptr) return std::nullopt;
  TunnelSpec spec;
  spec.vni = nla_get_u32(vni);
  spec.port = ntohs(nla_get_u16(port));
  if (const nlattr* local = inner(data, IFLA_VXLAN_LOCAL)) spec.local = ip_of(AF_INET, local);
  if (const nlattr* local = inner(data, IFLA_VXLAN_LOCAL6)) spec.local = ip_of(AF_INET6, local);
  return spec;
}

bool read_quiet(const nlattr* port) {
  return !flag(port, IFLA_BRPORT_LEARNING) && !flag(port, IFLA_BRPORT_UNICAST_FLOOD) &&
         !flag(port, IFLA_BRPORT_MCAST_FLOOD) && !flag(port, IFLA_BRPORT_BCAST_FLOOD) &&
         flag(port, IFLA_BRPORT_NEIGH_SUPPRESS);
}

SegmentDevice read_device(nlmsghdr* header) {
  const auto* info = static_cast<const ifinfomsg*>(nlmsg_data(header));
  const auto find = [&](int type) { return nlmsg_find_attr(header, sizeof(*info), type); };
  SegmentDevice device;
  device.index = info->ifi_index;
  device.up = (info->ifi_flags & IFF_UP) != 0;
  if (const auto* name = find(IFLA_IFNAME)) device.name = nla_get_string(name);
  if (const auto* alias = find(IFLA_IFALIAS)) device.alias = nla_get_string(alias);
  if (const auto* mtu = find(IFLA_MTU)) device.mtu = nla_get_u32(mtu);
  if (const auto* master = find(IFLA_MASTER)) device.master = static_cast<int>(nla_get_u32(master));
  const nlattr* detail = find(IFLA_LINKINFO);
  const nlattr* kind = inner(detail, IFLA_INFO_KIND);
  if (kind != nullptr && std::string_view(nla_get_string(kind)) == "vxlan") {
    const nlattr* data = inner(detail, IFLA_INFO_DATA);
    device.tunnel = read_tunnel(data);
    device.traits = read_traits(data);
  }
  if (device.master != 0) device.quiet = read_quiet(inner(detail, IFLA_INFO_SLAVE_DATA));
  return device;
}

// What a row of the kernel's tables means for a segment.
void read_entry(nlmsghdr* header, int bridge, int tunnel, KernelEntries& out) {
  const auto* row = static_cast<const ndmsg*>(nlmsg_data(header));
  const auto find = [&](int type) { return nlmsg_find_attr(header, sizeof(*row), type); };
  const std::optional<Mac> mac = mac_at(find(NDA_LLADDR));
  const nlattr* to = find(NDA_DST);
  if (!mac) return;
  if (row->ndm_family == AF_INET || row->ndm_family == AF_INET6) {
    const bool ours = row->ndm_ifindex == bridge && (row->ndm_state & NUD_PERMANENT) != 0;
    if (ours && to != nullptr) out.neighbours[ip_of(row->ndm_family, to)] = *mac;
    return;
  }
  if (row->ndm_family != AF_BRIDGE || tunnel == 0 || row->ndm_ifindex != tunnel) return;
  if (find(NDA_MASTER) != nullptr) {
    // Permanent ones are the device's own address. Kernels with VLANs show entries once more for
    // each of the port's VLANs.
    const nlattr* vlan = find(NDA_VLAN);
    if ((row->ndm_state & NUD_PERMANENT) != 0 || (vlan != nullptr && nla_get_u16(vlan) != 0))
      return;
    const bool is_static = (row->ndm_state & NUD_NOARP) != 0;
    out.bridge[*mac] = is_static && (row->ndm_flags & NTF_STICKY) != 0;
  } else if (to != nullptr) {
    out.tunnel[*mac].insert(ip_of(nla_len(to) == 4 ? AF_INET : AF_INET6, to));
  }
}

Message row_message(bool set, const char* what, const EntryChange& change, const ndmsg& row) {
  constexpr size_t kRoom = 96;
  Message m(set ? RTM_NEWNEIGH : RTM_DELNEIGH, set ? NLM_F_CREATE | NLM_F_REPLACE : 0, what, kRoom);
  m.header(row);
  if (!set) m.tolerate(ENOENT);
  if (change.kind != EntryChange::Kind::kDropNeighbour) {
    m.put(NDA_LLADDR, change.mac.data(), change.mac.size());
  }
  return m;
}

// `probe`: its own address, see new_probe_tunnel(); nullptr: a segment's.
Message tunnel_message(const TunnelSpec& spec, uint32_t mtu, int namespace_fd, const Mac* probe) {
  Message m(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, "create the tunnel");
  const std::string local = ip_bytes(spec.local);
  m.header(link_header(0)).put(IFLA_IFNAME, kSegmentTunnel).put_u32(IFLA_MTU, mtu);
  if (probe != nullptr) m.put(IFLA_ADDRESS, probe->data(), probe->size());
  m.put_u32(IFLA_NET_NS_FD, static_cast<uint32_t>(namespace_fd))
      .begin(IFLA_LINKINFO)
      .put(IFLA_INFO_KIND, "vxlan")
      .begin(IFLA_INFO_DATA)
      .put_u32(IFLA_VXLAN_ID, spec.vni)
      .put(spec.local.v6 ? IFLA_VXLAN_LOCAL6 : IFLA_VXLAN_LOCAL, local.data(), local.size())
      .put_u16(IFLA_VXLAN_PORT, htons(spec.port))
      .put_u8(IFLA_VXLAN_LEARNING, 0)
      .put_u8(IFLA_VXLAN_UDP_CSUM, 1);
  if (probe != nullptr) m.put_u8(IFLA_VXLAN_DF, VXLAN_DF_SET);
  if (spec.local.v6) {
    // The frames inside have checksums of their own.
    m.put_u8(IFLA_VXLAN_UDP_ZERO_CSUM6_TX, 1).put_u8(IFLA_VXLAN_UDP_ZERO_CSUM6_RX, 1);
  }
  m.end().end();
  return m;
}

}  // namespace

Message new_segment_bridge(uint32_t mtu) {
  Message m(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, "create a network's bridge");
  m.header(link_header(0, true))
      .put(IFLA_IFNAME, kSegmentBridge)
      .put(IFLA_ADDRESS, kBridgeMac.data(), kBridgeMac.size())
      // Next to it, for set_mtu() to be a change: only then it no longer follows its ports' MTUs.
      .put_u32(IFLA_MTU, mtu ^ 1)
      .begin(IFLA_LINKINFO)
      .put(IFLA_INFO_KIND, "bridge")
      .begin(IFLA_INFO_DATA)
      .put_u32(IFLA_BR_STP_STATE, 0)
      .put_u32(IFLA_BR_FORWARD_DELAY, 0)
      .put_u8(IFLA_BR_MCAST_SNOOPING, 0)
      .put_u16(IFLA_BR_VLAN_DEFAULT_PVID, 0)
      .end()
      .end()
      .tolerate(EEXIST);
  return m;
}

Message new_segment_tunnel(const TunnelSpec& spec, uint32_t mtu, int namespace_fd) {
  return tunnel_message(spec, mtu, namespace_fd, nullptr);
}

TunnelTraitsMending mend_traits(int index, const Ip& local, const TunnelTraits& now) {
  TunnelTraitsMending out;
  out.request.emplace(RTM_NEWLINK, 0, "set what the tunnel does with packets");
  out.request->header(link_header(index))
      .begin(IFLA_LINKINFO)
      .put(IFLA_INFO_KIND, "vxlan")
      .begin(IFLA_INFO_DATA);
  bool live = true;
  for (const Trait& trait : traits_of(local.v6)) {
    const auto found = now.find(trait.type);
    if (found == now.end() || found->second == trait.wanted) continue;
    out.said.push_back(fmt::format("{} was {}, now {}", trait.name, found->second, trait.wanted));
    live = live && trait.live;
    if (trait.bytes == 1) out.request->put_u8(trait.type, static_cast<uint8_t>(trait.wanted));
    if (trait.bytes == 4) out.request->put_u32(trait.type, trait.wanted);
  }
  out.request->end().end();
  if (!live) out.request.reset();
  return out;
}

Message new_probe_tunnel(const TunnelSpec& spec, uint32_t mtu, int namespace_fd, const Mac& self) {
  return tunnel_message(spec, mtu, namespace_fd, &self);
}

Message set_master(int index, int master) {
  Message m(RTM_NEWLINK, 0, fmt::format("put interface {} into its bridge", index));
  m.header(link_header(index)).put_u32(IFLA_MASTER, static_cast<uint32_t>(master));
  return m;
}

Message set_mtu(int index, uint32_t mtu) {
  Message m(RTM_NEWLINK, 0, fmt::format("set the MTU of interface {} to {}", index, mtu));
  m.header(link_header(index)).put_u32(IFLA_MTU, mtu);
  return m;
}

Message set_quiet(int index) {
  Message m(RTM_NEWLINK, 0, "keep learning and flooding away from the tunnel");
  m.header(link_header(index))
      .begin(IFLA_LINKINFO)
      .put(IFLA_INFO_SLAVE_KIND, "bridge")
      .begin(IFLA_INFO_SLAVE_DATA)
      .put_u8(IFLA_BRPORT_LEARNING, 0)
      .put_u8(IFLA_BRPORT_UNICAST_FLOOD, 0)
      .put_u8(IFLA_BRPORT_MCAST_FLOOD, 0)
      .put_u8(IFLA_BRPORT_BCAST_FLOOD, 0)
      .put_u8(IFLA_BRPORT_NEIGH_SUPPRESS, 1)
      .end()
      .end();
  return m;
}

Message entry_message(const EntryChange& change, int bridge, int tunnel) {
  using Kind = EntryChange::Kind;
  const std::string ip = ip_bytes(change.ip);
  ndmsg row{};
  row.ndm_family = AF_BRIDGE;
  row.ndm_ifindex = tunnel;
  switch (change.kind) {
    case Kind::kSetTunnel: {
      row.ndm_flags = NTF_SELF;
      row.ndm_state = NUD_PERMANENT | NUD_NOARP;
      Message m = row_message(true, "lead a MAC to its node", change, row);
      m.put(NDA_DST, ip.data(), ip.size());
      return m;
    }
    case Kind::kDropTunnel:
      row.ndm_flags = NTF_SELF;
      return row_message(false, "lead a MAC to no node", change, row);
    case Kind::kSetBridge:
      // Sticky: a container that sends with somebody else's address does not get his frames.
      row.ndm_flags = NTF_MASTER | NTF_STICKY;
      row.ndm_state = NUD_NOARP;
      return row_message(true, "lead a MAC to the tunnel", change, row);
    case Kind::kDropBridge:
      row.ndm_flags = NTF_MASTER;
      return row_message(false, "lead a MAC away from the tunnel", change, row);
    case Kind::kSetNeighbour:
    case Kind::kDropNeighbour: break;
  }
  const bool set = change.kind == Kind::kSetNeighbour;
  row.ndm_family = change.ip.v6 ? AF_INET6 : AF_INET;
  row.ndm_ifindex = bridge;
  row.ndm_state = set ? NUD_PERMANENT : 0;
  Message m = row_message(set, set ? "add a neighbour" : "remove a neighbour", change, row);
  m.put(NDA_DST, ip.data(), ip.size());
  return m;
}

Result<std::vector<SegmentDevice>> list_segment_devices(NetlinkSocket& socket) {
  Message m(RTM_GETLINK, 0, "list a network's interfaces");
  m.header(ifinfomsg{}).put_u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
  std::vector<SegmentDevice> devices;
  MUSTER_TRY(socket.query(m, true, [&](nlmsghdr* h) {
    if (h->nlmsg_type == RTM_NEWLINK) devices.push_back(read_device(h));
  }));
  return devices;
}

const SegmentDevice* find_device(const std::vector<SegmentDevice>& devices, std::string_view name) {
  const auto at = std::find_if(devices.begin(), devices.end(),
                               [&](const SegmentDevice& d) { return d.name == name; });
  return at == devices.end() ? nullptr : &*at;
}

Result<KernelEntries> list_segment_entries(NetlinkSocket& socket, int bridge, int tunnel) {
  KernelEntries entries;
  for (const int family : {AF_BRIDGE, AF_INET, AF_INET6}) {
    Message m(RTM_GETNEIGH, 0, "list a network's entries");
    ndmsg row{};
    row.ndm_family = static_cast<uint8_t>(family);
    m.header(row);
    MUSTER_TRY(socket.query(m, true, [&](nlmsghdr* h) {
      if (h->nlmsg_type == RTM_NEWNEIGH) read_entry(h, bridge, tunnel, entries);
    }));
  }
  return entries;
}

}  // namespace muster::overlay
