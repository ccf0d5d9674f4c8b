#include "overlay/dataplane/probe_tunnel.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "overlay/dataplane/links.h"
#include "overlay/dataplane/namespaces.h"
#include "overlay/dataplane/segment_links.h"
#include "overlay/dataplane/sysctl.h"
#include "overlay/dataplane/wire.h"

namespace muster::overlay {
namespace {

constexpr const char* kDevice = "vx0";
constexpr size_t kFrameMax = 65'535;
// Requests sent at once: what the kernel answers has to fit into the socket's buffer.
constexpr size_t kBatch = 128;

// Like a network's (segment_links.cc): only devices of one kind share the UDP socket.
Message new_device(const ProbeTunnel::Spec& spec, const Mac& self, int namespace_fd) {
  Message m(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, "create a tunnel to examine the way to others");
  const std::string local = ip_bytes(spec.local);
  m.header(ifinfomsg{})
      .put(IFLA_IFNAME, kDevice)
      .put(IFLA_ADDRESS, self.data(), self.size())
      .put_u32(IFLA_MTU, spec.mtu)
      .put_u32(IFLA_NET_NS_FD, static_cast<uint32_t>(namespace_fd))
      .begin(IFLA_LINKINFO)
      .put(IFLA_INFO_KIND, "vxlan")
      .begin(IFLA_INFO_DATA)
      .put_u32(IFLA_VXLAN_ID, spec.vni)
      .put(spec.local.v6 ? IFLA_VXLAN_LOCAL6 : IFLA_VXLAN_LOCAL, local.data(), local.size())
      .put_u16(IFLA_VXLAN_PORT, htons(spec.port))
      .put_u8(IFLA_VXLAN_LEARNING, 0)
      .put_u8(IFLA_VXLAN_UDP_CSUM, 1)
      .put_u8(IFLA_VXLAN_DF, VXLAN_DF_SET);
  if (spec.local.v6) {
    m.put_u8(IFLA_VXLAN_UDP_ZERO_CSUM6_TX, 1).put_u8(IFLA_VXLAN_UDP_ZERO_CSUM6_RX, 1);
  }
  m.end().end();
  return m;
}

bool says(const Status& status, std::string_view text) {
  return status.message().find(text) != std::string::npos;
}

}  // namespace

// FNV-1a; the first byte marks an address that is given out locally.
Mac ProbeTunnel::mac_of_peer(std::string_view name) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : name) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  Mac mac{0x02};
  for (size_t i = 1; i < mac.size(); ++i) mac[i] = static_cast<uint8_t>(hash >> (8 * i));
  return mac;
}

Result<std::unique_ptr<ProbeTunnel>> ProbeTunnel::open(const Spec& spec) {
  std::optional<NetlinkSocket> inside;
  UniqueFd ns, socket;
  MUSTER_TRY(on_own_thread([&]() -> Status {
    if (unshare(CLONE_NEWNET) != 0) return errno_status(errno, "cannot make a network namespace");
    // Nothing but what is sent here leaves through the device.
    if (kernel_has_ipv6()) MUSTER_TRY(write_sysctl("net.ipv6.conf.default.disable_ipv6", "1"));
    MUSTER_ASSIGN(inside, NetlinkSocket::open(NETLINK_ROUTE));
    ns = UniqueFd(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    if (!ns) return errno_status(errno, "cannot open a network namespace");
    socket =
        UniqueFd(::socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(kEtherType)));
    if (!socket) return errno_status(errno, "cannot open a packet socket");
    return ok_status();
  }));
  std::unique_ptr<ProbeTunnel> tunnel(
      new ProbeTunnel(*std::move(inside), std::move(socket), mac_of_peer(spec.self)));
  MUSTER_TRY(tunnel->make(spec, ns.get()));
  return tunnel;
}

Status ProbeTunnel::make(const Spec& spec, int namespace_fd) {
  MUSTER_ASSIGN(NetlinkSocket host, NetlinkSocket::open(NETLINK_ROUTE));
  Status made = host.run(new_device(spec, self_, namespace_fd));
  if (says(made, "not supported")) {
    return failed_precondition(
        "this kernel has no VXLAN (module vxlan), by which other nodes are reached: {}",
        made.message());
  }
  if (made.code() == StatusCode::kAlreadyExists) {
    return already_exists("another program on this node uses VNI {} on UDP port {}", spec.vni,
                          spec.port);
  }
  MUSTER_TRY(made);
  MUSTER_ASSIGN(const auto link, find_link(inside_, kDevice));
  if (!link) return internal_error("the tunnel vanished");
  index_ = link->index;
  made = inside_.run(set_up(index_));
  if (says(made, "in use")) {
    return already_exists("UDP port {} is in use by another program on this node", spec.port);
  }
  MUSTER_TRY(made);
  std::vector<Message> batch;
  for (size_t i = 0; i < spec.peers.size(); ++i) {
    EntryChange change;
    change.kind = EntryChange::Kind::kSetTunnel;
    change.mac = mac_of_peer(spec.peers[i].name);
    change.ip = spec.peers[i].address;
    // The other family is not reached from here, which is for others to say.
    if (change.ip.v6 == spec.local.v6) batch.push_back(entry_message(change, 0, index_));
    if (batch.size() < kBatch && i + 1 < spec.peers.size()) continue;
    MUSTER_TRY(inside_.run(batch));
    batch.clear();
  }
  buffer_.resize(kFrameMax);
  return ok_status();
}

// The kernel takes the namespace away when it comes to it; until then a second tunnel of this
// number could not be made.
ProbeTunnel::~ProbeTunnel() {
  if (index_ != 0) (void)inside_.run(delete_link(kDevice));
}

void ProbeTunnel::send(const std::string& peer, std::string_view content) {
  const Mac mac = mac_of_peer(peer);
  sockaddr_ll to{};
  to.sll_family = AF_PACKET;
  to.sll_protocol = htons(kEtherType);
  to.sll_ifindex = index_;
  to.sll_halen = static_cast<unsigned char>(mac.size());
  std::memcpy(to.sll_addr, mac.data(), mac.size());
  (void)sendto(socket_.get(), content.data(), content.size(), MSG_NOSIGNAL,
               reinterpret_cast<const sockaddr*>(&to), sizeof to);
}

std::optional<std::string> ProbeTunnel::receive() {
  for (;;) {
    sockaddr_ll from{};
    socklen_t size = sizeof from;
    const ssize_t got = recvfrom(socket_.get(), buffer_.data(), buffer_.size(), 0,
                                 reinterpret_cast<sockaddr*>(&from), &size);
    if (got < 0) {
      if (errno == EINTR || errno == ENETDOWN) continue;
      return std::nullopt;
    }
    if (from.sll_ifindex != index_ || from.sll_pkttype == PACKET_OUTGOING) continue;
    return buffer_.substr(0, static_cast<size_t>(got));
  }
}

}  // namespace muster::overlay
