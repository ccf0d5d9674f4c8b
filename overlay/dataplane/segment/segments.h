#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "muster/v1/objects.pb.h"
#include "overlay/dataplane/kernel/names.h"
#include "overlay/dataplane/kernel/namespaces.h"
#include "overlay/dataplane/kernel/netlink.h"
#include "overlay/dataplane/kernel/nft.h"
#include "overlay/dataplane/kernel/sysctl.h"
#include "overlay/dataplane/node_network.h"
#include "overlay/dataplane/segment/segment_links.h"
#include "overlay/dataplane/segment/segment_plan.h"
#include "overlay/dataplane/told/network_truth.h"

namespace muster::overlay {

class EspTunnels;

// The overlay networks that this node is in. Each has a namespace of its own, pinned as
// "net-<network id>", with a bridge "br0" that has no address. Ports of the bridge are the far ends
// of containers' interfaces. Once the network has a member on another node there is a tunnel, too:
// the VXLAN device "vx0", whose UDP socket is in the host's namespace. Nothing is learnt or flooded
// through it; entries say which MAC is on which node, and neighbours of br0 answer requests for
// addresses on this node already.
//
// What managers tell is remembered from apply() to forget(), whether or not there is a segment; a
// segment made later has it at once. A segment found after a restart is left as it is until its
// network is told of again, so traffic goes on without managers.
//
// Not thread-safe; lives in the host's network namespace.
class Segments {
 public:
  // Where a port of a network's bridge is to be made. Valid until the next call that may remove the
  // segment.
  struct Place {
    NetlinkSocket* inside = nullptr;  // rtnetlink of the segment's namespace
    int namespace_fd = -1;
    int bridge_index = 0;  // in that namespace
    uint32_t mtu = 0;
  };

  // Does not own `pins` and `host_rtnl`.
  // Without `esp` encrypted networks get no tunnel.
  Segments(const Names& names, NamespaceDir& pins, NetlinkSocket& host_rtnl, Log log,
           const EspTunnels* esp = nullptr)
      : names_(names), pins_(pins), host_(host_rtnl), log_(std::move(log)), esp_(esp) {}

  // "net-<network id>", the pin of a network's namespace; others of the directory are containers'.
  static std::string pin(std::string_view network_id);
  static bool is_pin(std::string_view name) { return name.starts_with("net-"); }

  // Learns what a former process left. What is remembered of networks stays.
  Status scan();

  // Makes the network's segment where it is missing, and notes that `port` will be in it, so that
  // it stays. Ports are known by the name of the interface in the segment's namespace; anything may
  // be one (the node's own place in the ingress network, too).
  Result<Place> acquire(const v1::Network& network, const std::string& port);
  // The port is gone; removes a segment that has none left.
  Status release(const std::string& port);
  bool has_port(const std::string& port) const { return ports_.contains(port); }
  // Empty: it is none.
  std::string network_of(const std::string& port) const {
    const auto it = ports_.find(port);
    return it == ports_.end() ? std::string() : it->second;
  }
  // By network id, for those that exist.
  std::optional<Place> find(std::string_view network_id);
  // Removes the ports that `keep` does not name, and segments without ports.
  Status sweep(const std::set<std::string>& keep);

  // Who this node is, and all that was told so far. Tunnels that stand at another address or port
  // are made anew.
  Status set_local_node(const LocalNode& node, const NetworkTruths& truths);
  // What a step has changed, after it went into `truth`. Costs what has changed. A failure is
  // mended by repair().
  Status apply(const NetworkTruth& truth, const NetworkDifference& difference);
  // The node takes no part in the network any more: tunnel and entries go, ports stay.
  Status forget(const std::string& network_id);
  // Compares the kernel with what it should be, mends it, and adds a sentence to `said` for each
  // difference. Of many entries of one kind a few are named and the rest is counted.
  void repair(std::vector<std::string>& said);
  // What the last repair() could not mend, a sentence a network.
  std::vector<std::string> troubles() const;
  // Why this kernel has no way to other nodes; empty: it has. Tried once, and again as long as the
  // answer is no: a module may be loaded later.
  const std::string& vxlan_trouble();
  // ... as it was found last, for those who are told.
  const std::string& known_vxlan_trouble() const { return vxlan_trouble_; }
  // The networks on the wire that this node has a tunnel for.
  std::set<uint32_t> tunnel_vnis() const;

 private:
  // What the devices of a network are like.
  struct Shape {
    std::string network_id;
    std::string name;
    uint32_t vni = 0;
    uint32_t mtu = 0;
    bool ingress = false;
    bool encrypted = false;
    // Below 1,280 bytes the kernel takes IPv6 away from interfaces.
    bool ipv6() const { return mtu >= 1280; }

    friend bool operator==(const Shape&, const Shape&) = default;
  };
  // What managers told.
  struct Told {
    Shape shape;
    SegmentBook book;
  };
  struct Segment {
    Segment(Shape s, NetlinkSocket socket, UniqueFd fd)
        : shape(std::move(s)), inside(std::move(socket)), ns(std::move(fd)) {}

    Shape shape;
    NetlinkSocket inside;
    UniqueFd ns;
    int bridge = 0;           // index; 0 = somebody removed it
    int tunnel = 0;           // index; 0 = none
    TunnelTraits remade_for;  // what a tunnel had for which it was made anew
    std::set<std::string> ports;
    // The kernel has what the book says. Else the next step looks at all of it.
    bool in_step = false;
    std::string trouble;          // what repair() could not mend
    std::unique_ptr<LibNft> nft;  // of an encrypted network, in the namespace
  };
  using Said = std::vector<std::string>;

  static Result<Shape> shape_of(const v1::Network& network);
  std::optional<Member> member(const std::string& mac, const std::vector<std::string>& addresses,
                               const std::string& node_id, const std::string& node_addr, bool ipv6);
  std::optional<Member> member_of(const v1::NetworkEndpoint& endpoint, bool ipv6);
  std::optional<Member> member_of(const v1::IngressNode& node, bool ipv6);
  void fill(Told& told, const NetworkTruth& truth);

  Segment* segment_of(std::string_view network_id);
  Told* told_of(std::string_view network_id);
  Place place_of(Segment& segment) const;
  std::string alias_of(const Shape& shape) const;
  Result<std::unique_ptr<Segment>> adopt(const std::string& network_id);
  Result<std::unique_ptr<Segment>> make(const Shape& shape);
  Status remove(const std::string& network_id);
  Status remove_unused();

  Status install(Segment& segment, const SegmentEntries& entries);
  Status bring_in_step(Segment& segment, Said* said);
  Status mend_bridge(Segment& segment, Said* said);
  Status mend_ports(Segment& segment, const std::vector<SegmentDevice>& devices, Said* said);
  Status mend_settings(Segment& segment, Said* said);
  bool mend_traits(Segment& segment, const SegmentDevice& tunnel, Said* said);
  Status mend_tunnel(Segment& segment, const SegmentEntries& entries, Said* said);
  Status mend_entries(Segment& segment, const SegmentEntries& wanted, Said* said);
  Status mend_pin(Segment& segment, Said* said);
  Status mend_mark(Segment& segment, Said* said);
  Status make_tunnel(Segment& segment);
  Status drop_tunnel(Segment& segment);
  Status move_tunnel(Segment& segment);
  Status run(Segment& segment, const std::vector<EntryChange>& changes);

  const Names& names_;
  NamespaceDir& pins_;
  NetlinkSocket& host_;
  Log log_;
  const EspTunnels* esp_;
  const bool ipv6_ = kernel_has_ipv6();
  LocalNode node_;
  bool vxlan_seen_ = false;
  std::string vxlan_trouble_;
  std::map<std::string, Told, std::less<>> told_;                          // by network id
  std::map<std::string, std::unique_ptr<Segment>, std::less<>> segments_;  // by network id
  std::map<std::string, std::string> ports_;                               // port -> network id
  std::set<std::string> foreign_;  // data paths of the other family, warned of
};

}  // namespace muster::overlay
