#include "overlay/dataplane/segment/vxlan_probe.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/netlink.h>
#include <sched.h>

#include <cerrno>

#include "base/unique_fd.h"
#include "overlay/dataplane/kernel/namespaces.h"
#include "overlay/dataplane/kernel/netlink.h"
#include "overlay/dataplane/segment/segment_links.h"

namespace muster::overlay {
namespace {

constexpr uint32_t kVni = 1;
constexpr uint16_t kPort = 4789;
constexpr uint32_t kMtu = 1450;

// The device stays down, so that nothing is sent or listened to.
Status make_one() {
  if (unshare(CLONE_NEWNET) != 0) return errno_status(errno, "make a network namespace");
  MUSTER_ASSIGN(NetlinkSocket socket, NetlinkSocket::open(NETLINK_ROUTE));
  const UniqueFd here(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  if (!here) return errno_status(errno, "cannot open a network namespace");
  MUSTER_ASSIGN(const Ip local, Ip::parse("192.0.2.1"));
  return socket.run(new_segment_tunnel({kVni, local, kPort}, kMtu, here.get()));
}

}  // namespace

std::optional<std::string> vxlan_trouble() {
  const Status made = on_own_thread(make_one);
  if (made.ok()) return std::string();
  if (!refused_with(made, EOPNOTSUPP)) return std::nullopt;
  return fmt::format("{}: {}", kNoVxlan, made.message());
}

}  // namespace muster::overlay
