#include "overlay/dataplane/container/flows.h"

#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netlink/msg.h>
#include <sched.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <set>
#include <utility>

#include "overlay/dataplane/container/tracked_flows.h"
#include "overlay/dataplane/kernel/loopback.h"
#include "overlay/dataplane/kernel/namespaces.h"
#include "overlay/dataplane/kernel/netlink.h"

namespace muster::overlay {
namespace {

constexpr long kNsfsMagic = 0x6e736673;  // NSFS_MAGIC

constexpr uint32_t bit(int state) {
  return 1u << state;
}
// FIN_WAIT1, LAST_ACK and CLOSING: what was sent last has not arrived. CLOSE_WAIT: the client has
// asked for all it wants, and waits for the answer.
constexpr uint32_t kConnections = bit(TCP_ESTABLISHED) | bit(TCP_SYN_RECV) | bit(TCP_FIN_WAIT1) |
                                  bit(TCP_CLOSE_WAIT) | bit(TCP_LAST_ACK) | bit(TCP_CLOSING);

Status list_sockets(NetlinkSocket& socket, uint8_t family, std::vector<TcpSocket>& out) {
  inet_diag_req_v2 request{};
  request.sdiag_family = family;
  request.sdiag_protocol = IPPROTO_TCP;
  request.idiag_states = kConnections | bit(TCP_LISTEN);
  Message list(SOCK_DIAG_BY_FAMILY, 0, "list TCP sockets");
  list.header(request);
  return socket.query(list, true, [&](nlmsghdr* h) {
    if (h->nlmsg_type != SOCK_DIAG_BY_FAMILY || nlmsg_datalen(h) < int(sizeof(inet_diag_msg))) {
      return;
    }
    const auto* found = static_cast<const inet_diag_msg*>(nlmsg_data(h));
    const size_t size = found->idiag_family == AF_INET6 ? 16 : 4;
    const auto bytes = [size](const void* at) {
      return std::string(static_cast<const char*>(at), size);
    };
    out.push_back({found->idiag_state, bytes(found->id.idiag_src), ntohs(found->id.idiag_sport),
                   bytes(found->id.idiag_dst)});
  });
}

// In the calling thread's namespace.
Result<bool> any_incoming_here() {
  std::vector<TcpSocket> found;
  MUSTER_ASSIGN(NetlinkSocket socket, NetlinkSocket::open(NETLINK_SOCK_DIAG));
  MUSTER_TRY(list_sockets(socket, AF_INET, found));
  MUSTER_TRY(list_sockets(socket, AF_INET6, found));
  if (any_incoming(found)) return true;
  return any_incoming_tracked(socket);
}

class NamespaceFlows final : public ContainerFlows {
 public:
  explicit NamespaceFlows(std::string directory) : pins_(std::move(directory)) {}

  Result<bool> any(const std::string& container_id) override {
    const std::string file = pins_.path(container_id);
    const int fd = open(file.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) return false;
    if (fd < 0) return fail(errno_status(errno, "cannot open " + file));
    struct statfs fs {};
    bool found = false;
    Status outcome;
    // One that is no pin is what a crash left of the making of one.
    if (fstatfs(fd, &fs) == 0 && fs.f_type == kNsfsMagic) {
      outcome = on_own_thread([&]() -> Status {
        if (setns(fd, CLONE_NEWNET) != 0) {
          return errno_status(errno, "cannot enter network namespace " + file);
        }
        MUSTER_ASSIGN(found, any_incoming_here());
        return ok_status();
      });
    }
    close(fd);
    if (!outcome.ok()) return fail(std::move(outcome));
    return found;
  }

 private:
  NamespaceDir pins_;
};

}  // namespace

bool any_incoming(const std::vector<TcpSocket>& sockets) {
  std::set<uint16_t> listening;
  for (const TcpSocket& socket : sockets) {
    if (socket.state == TCP_LISTEN) listening.insert(socket.local_port);
  }
  return std::any_of(sockets.begin(), sockets.end(), [&](const TcpSocket& socket) {
    return (kConnections & bit(socket.state)) != 0 && listening.contains(socket.local_port) &&
           socket.remote != socket.local && !is_loopback(socket.remote);
  });
}

std::string container_namespaces(std::string_view run_dir, std::string_view instance_id) {
  return fmt::format("{}/{}/netns", run_dir, instance_id);
}

std::unique_ptr<ContainerFlows> make_container_flows(std::string namespace_dir) {
  return std::make_unique<NamespaceFlows>(std::move(namespace_dir));
}

}  // namespace muster::overlay
