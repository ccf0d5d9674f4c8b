#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "base/unique_fd.h"
#include "overlay/dataplane/kernel/netlink.h"
#include "overlay/dataplane/segment/segment_plan.h"
#include "overlay/ipam/ip.h"

namespace muster::overlay {

// A tunnel for examinations: frames that pass through it go the way of overlay networks, out of the
// same UDP socket and into it, through every rule of both hosts and what is between them, and reach
// nobody but another such tunnel. It is in a network namespace that nothing pins: it goes with this
// object, or with the process, however that ends.
//
// Frames are never cut to pieces on their way: one that is too large for it is lost.
//
// Not thread-safe. To be made by a thread in the host's namespace.
class ProbeTunnel {
 public:
  // An Ethernet type for experiments (IEEE 802); nobody else's frames have it.
  static constexpr uint16_t kEtherType = 0x88b5;
  // Numbers that no network is given (ipam.h).
  static constexpr uint32_t kFirstVni = 0xfff000;
  static constexpr uint32_t kVnis = 0x1000;

  struct Peer {
    std::string name;
    Ip address;
  };
  struct Spec {
    uint32_t vni = kFirstVni;
    Ip local;
    uint16_t port = 0;
    uint32_t mtu = 1450;  // of the largest frame's content
    std::string self;     // this node's name among the peers
    std::vector<Peer> peers;
  };

  // FAILED_PRECONDITION: a kernel without VXLAN. ALREADY_EXISTS: somebody else has the port or the
  // number.
  static Result<std::unique_ptr<ProbeTunnel>> open(const Spec& spec);
  ~ProbeTunnel();
  ProbeTunnel(const ProbeTunnel&) = delete;
  ProbeTunnel& operator=(const ProbeTunnel&) = delete;

  // Readable while receive() has something.
  int fd() const { return socket_.get(); }
  // Sends to a peer; what cannot be sent is lost, as on any way.
  void send(const std::string& peer, std::string_view content);
  std::optional<std::string> receive();

  // The Ethernet address of who has this name.
  static Mac mac_of_peer(std::string_view name);

 private:
  ProbeTunnel(NetlinkSocket inside, UniqueFd socket, Mac self)
      : inside_(std::move(inside)), socket_(std::move(socket)), self_(self) {}
  Status make(const Spec& spec, int namespace_fd);

  NetlinkSocket inside_;
  UniqueFd socket_;
  const Mac self_;
  int index_ = 0;
  std::string buffer_;
};

}  // namespace muster::overlay
