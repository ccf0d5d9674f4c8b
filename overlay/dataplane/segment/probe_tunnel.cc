#include "overlay/dataplane/segment/probe_tunnel.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <sched.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/fnv.h"
#include "overlay/dataplane/kernel/links.h"
#include "overlay/dataplane/kernel/namespaces.h"
#include "overlay/dataplane/kernel/sysctl.h"
#include "overlay/dataplane/segment/segment_links.h"
#include "overlay/dataplane/segment/vxlan_probe.h"

namespace muster::overlay {
namespace {

constexpr size_t kFrameMax = 65'535;
// Requests sent at once: what the kernel answers has to fit into the socket's buffer.
constexpr size_t kBatch = 128;

}  // namespace

// The first byte marks an address that is given out locally.
Mac ProbeTunnel::mac_of_peer(std::string_view name) {
  const uint64_t hash = fnv1a_64(name);
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
  Status made =
      host.run(new_probe_tunnel({spec.vni, spec.local, spec.port}, spec.mtu, namespace_fd, self_));
  if (refused_with(made, EOPNOTSUPP)) {
    return failed_precondition("{}: {}", kNoVxlan, made.message());
  }
  if (made.code() == StatusCode::kAlreadyExists) {
    return already_exists("another program on this node uses VNI {} on UDP port {}", spec.vni,
                          spec.port);
  }
  MUSTER_TRY(made);
  MUSTER_ASSIGN(const auto link, find_link(inside_, kSegmentTunnel));
  if (!link) return internal_error("the tunnel vanished");
  index_ = link->index;
  made = inside_.run(set_up(index_));
  if (refused_with(made, EADDRINUSE)) {
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
  if (index_ != 0) (void)inside_.run(delete_link(kSegmentTunnel));
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
