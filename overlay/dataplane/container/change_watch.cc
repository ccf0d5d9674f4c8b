#include "overlay/dataplane/container/change_watch.h"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

#include "overlay/dataplane/container/mesh_task.h"

namespace muster::overlay {
namespace {

// What is in it does not matter, and if there is more we are told so.
constexpr int kReceiveBytes = 8192;

// Offsets in a message: nlmsghdr has 16 bytes, then rtmsg or ndmsg (12 bytes). The kernel tells a
// neighbour's address first of its attributes.
constexpr uint32_t kType = 4;
constexpr uint32_t kFamily = 16;
constexpr uint32_t kRouteTable = 20;
constexpr uint32_t kNeighbour = 32;
constexpr uint32_t kNeighbourEnd6 = kNeighbour + 12;

constexpr sock_filter load(uint16_t size, uint32_t at) {
  return {static_cast<uint16_t>(BPF_LD | size | BPF_ABS), 0, 0, at};
}
constexpr sock_filter jump_if(uint32_t value, uint8_t yes, uint8_t no) {
  return {BPF_JMP | BPF_JEQ | BPF_K, yes, no, value};
}
constexpr sock_filter end(bool pass) {
  return {BPF_RET | BPF_K, 0, 0, pass ? 0xffffffff : 0};
}

// Filters read numbers highest byte first, messages are in the machine's order.
uint32_t type(uint16_t number) {
  return ntohs(number);
}
uint32_t end_of(const Ip& ip) {
  return static_cast<uint32_t>(ip.value);
}

Status attach_filter(int fd) {
  std::array program = {
      load(BPF_H, kType),                          // 0
      jump_if(type(RTM_NEWROUTE), 3, 0),           // 1: to 5
      jump_if(type(RTM_DELROUTE), 2, 0),           // 2: to 5
      jump_if(type(RTM_NEWNEIGH), 3, 0),           // 3: to 7
      jump_if(type(RTM_DELNEIGH), 2, 9),           // 4: to 7, 14
      load(BPF_B, kRouteTable),                    // 5
      jump_if(RT_TABLE_LOCAL, 8, 7),               // 6: to 15, 14
      load(BPF_B, kFamily),                        // 7
      jump_if(AF_INET, 0, 2),                      // 8: to 9, 11
      load(BPF_W, kNeighbour),                     // 9
      jump_if(end_of(mesh_gateway(false)), 3, 4),  // 10: to 14, 15
      jump_if(AF_INET6, 0, 3),                     // 11: to 12, 15
      load(BPF_W, kNeighbourEnd6),                 // 12
      jump_if(end_of(mesh_gateway(true)), 0, 1),   // 13: to 14, 15
      end(true),                                   // 14
      end(false),                                  // 15
  };
  const sock_fprog all{static_cast<unsigned short>(program.size()), program.data()};
  if (::setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &all, sizeof(all)) != 0) {
    return errno_status(errno, "cannot filter a netlink socket");
  }
  return ok_status();
}

}  // namespace

Result<ChangeWatch> ChangeWatch::open() {
  ChangeWatch out;
  out.fd_ = UniqueFd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE));
  if (!out.fd_) return fail(errno_status(errno, "cannot open a netlink socket"));
  const int fd = out.fd_.get();
  ::setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &kReceiveBytes, sizeof(kReceiveBytes));
  MUSTER_TRY(attach_filter(fd));
  // One without an address of its own is told of nothing.
  sockaddr_nl self{};
  self.nl_family = AF_NETLINK;
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&self), sizeof(self)) != 0) {
    return fail(errno_status(errno, "cannot bind a netlink socket"));
  }
  for (const int group :
       {RTNLGRP_LINK, RTNLGRP_NEIGH, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_ROUTE,
        RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_RULE}) {
    if (::setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) != 0) {
      return fail(errno_status(errno, "cannot listen to a namespace's changes"));
    }
  }
  return out;
}

bool ChangeWatch::moved() {
  bool moved = false;
  char byte = 0;
  while (true) {
    // The rest of a message is thrown away.
    if (::recv(fd_.get(), &byte, sizeof(byte), MSG_DONTWAIT) >= 0) {
      moved = true;
      continue;
    }
    if (errno == EINTR) continue;
    if (errno == EAGAIN) return moved;
    // What there was no room for is told of once.
    moved = true;
    if (errno != ENOBUFS) return moved;
  }
}

}  // namespace muster::overlay
