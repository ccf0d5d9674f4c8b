#include "overlay/dataplane/segment/segments.h"

#include <fcntl.h>
#include <linux/netlink.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "overlay/dataplane/host/bridges.h"
#include "overlay/dataplane/kernel/links.h"
#include "overlay/dataplane/segment/segment_links.h"
#include "overlay/ipam/mtu.h"

namespace muster::overlay {
namespace {

std::string key_of_task(const std::string& id) {
  return "task " + id;
}
std::string key_of_node(const std::string& id) {
  return "node " + id;
}

// What a namespace is held by, from a thread that is in it.
Status open_here(std::optional<NetlinkSocket>& socket, UniqueFd& ns) {
  MUSTER_ASSIGN(socket, NetlinkSocket::open(NETLINK_ROUTE));
  ns = UniqueFd(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  if (!ns) return errno_status(errno, "cannot open a network namespace");
  return ok_status();
}

}  // namespace

std::string Segments::pin(std::string_view network_id) {
  return fmt::format("net-{}", network_id);
}

Result<Segments::Shape> Segments::shape_of(const v1::Network& network) {
  Shape shape;
  shape.network_id = network.id();
  shape.name = network.spec().annotations().name();
  shape.vni = network.state().vni();
  shape.ingress = network.spec().ingress();
  shape.encrypted = is_encrypted(network.spec());
  MUSTER_ASSIGN(shape.mtu, network_mtu(network));
  return shape;
}

std::string Segments::alias_of(const Shape& shape) const {
  return fmt::format("muster {} {} {}", names_.instance(), shape.network_id, shape.name);
}

Segments::Segment* Segments::segment_of(std::string_view network_id) {
  const auto at = segments_.find(network_id);
  return at == segments_.end() ? nullptr : at->second.get();
}

Segments::Told* Segments::told_of(std::string_view network_id) {
  const auto at = told_.find(network_id);
  return at == told_.end() ? nullptr : &at->second;
}

Segments::Place Segments::place_of(Segment& segment) const {
  return {&segment.inside, segment.ns.get(), segment.bridge, segment.shape.mtu};
}

std::optional<Segments::Place> Segments::find(std::string_view network_id) {
  Segment* segment = segment_of(network_id);
  if (segment == nullptr) return std::nullopt;
  return place_of(*segment);
}

std::set<uint32_t> Segments::tunnel_vnis() const {
  std::set<uint32_t> out;
  for (const auto& [id, segment] : segments_) {
    if (segment->tunnel != 0) out.insert(segment->shape.vni);
  }
  return out;
}

// ---------------------------------------------------------------- members

std::optional<Member> Segments::member(const std::string& mac,
                                       const std::vector<std::string>& addresses,
                                       const std::string& node_id, const std::string& node_addr,
                                       bool ipv6) {
  Member out;
  for (const std::string& text : addresses) {
    const auto ip = Ip::parse(text);
    if (ip && (!ip->v6 || (ipv6 && ipv6_))) out.addresses.push_back(*ip);
  }
  std::string text = mac;
  if (text.empty() && !out.addresses.empty()) text = mac_of(out.addresses.front());
  const auto parsed = parse_mac(text);
  if (!parsed) return std::nullopt;
  out.mac = *parsed;
  const auto node = Ip::parse(node_addr);
  const auto mine = Ip::parse(node_.data_path_addr);
  if (node) out.node = *node;
  out.here = (!node_id.empty() && node_id == node_.node_id) || (node && mine && out.node == *mine);
  if (out.here) return out;
  // Its node has not told where it is, or this one is in no swarm.
  if (!node || !mine) return std::nullopt;
  if (node->v6 != mine->v6) {
    if (foreign_.insert(node_addr).second) {
      log_->warn(
          "tasks on the node with data-path address {} cannot be reached: this node's is {}, and "
          "both have to be IPv4 or both IPv6 (--data-path-addr)",
          node_addr, node_.data_path_addr);
    }
    return std::nullopt;
  }
  return out;
}

std::optional<Member> Segments::member_of(const v1::NetworkEndpoint& e, bool ipv6) {
  auto out = member(e.mac(), {e.addresses().begin(), e.addresses().end()}, e.node_id(),
                    e.data_path_addr(), ipv6);
  // Those that are on their way out go on talking until they are gone.
  if (out) out->ready = e.state() == v1::ENDPOINT_READY;
  return out;
}

std::optional<Member> Segments::member_of(const v1::IngressNode& n, bool ipv6) {
  return member(n.mac(), {n.addresses().begin(), n.addresses().end()}, n.node_id(),
                n.data_path_addr(), ipv6);
}

void Segments::fill(Told& told, const NetworkTruth& truth) {
  told.book = {};
  const bool ipv6 = told.shape.ipv6();
  for (const auto& [id, endpoint] : truth.endpoints) {
    told.book.put(key_of_task(id), member_of(endpoint, ipv6));
  }
  for (const auto& [id, node] : truth.ingress_nodes) {
    told.book.put(key_of_node(id), member_of(node, ipv6));
  }
}

// ---------------------------------------------------------------- segments that exist

Status Segments::scan() {
  segments_.clear();
  ports_.clear();
  MUSTER_ASSIGN(const auto pinned, pins_.list());
  for (const std::string& name : pinned) {
    if (!is_pin(name)) continue;
    const std::string network_id = name.substr(4);
    MUSTER_ASSIGN(auto segment, adopt(network_id));
    if (segment == nullptr) continue;
    for (const std::string& port : segment->ports) ports_[port] = network_id;
    segments_[network_id] = std::move(segment);
  }
  return ok_status();
}

// nullptr: a pin that a crash left half made; it is removed.
Result<std::unique_ptr<Segments::Segment>> Segments::adopt(const std::string& network_id) {
  std::optional<NetlinkSocket> inside;
  UniqueFd ns;
  bool created = false;
  MUSTER_TRY(on_own_thread([&]() -> Status {
    MUSTER_TRY(pins_.enter(pin(network_id), &created));
    return created ? ok_status() : open_here(inside, ns);
  }));
  if (created) {
    MUSTER_TRY(pins_.remove(pin(network_id)));
    return nullptr;
  }
  MUSTER_ASSIGN(const auto devices, list_segment_devices(*inside));
  const Told* told = told_of(network_id);
  auto segment = std::make_unique<Segment>(told != nullptr ? told->shape : Shape{},
                                           *std::move(inside), std::move(ns));
  segment->shape.network_id = network_id;
  if (const SegmentDevice* tunnel = find_device(devices, kSegmentTunnel)) {
    segment->tunnel = tunnel->index;
    if (told == nullptr && tunnel->tunnel) segment->shape.vni = tunnel->tunnel->vni;
  }
  const SegmentDevice* bridge = find_device(devices, kSegmentBridge);
  for (const SegmentDevice& device : devices) {
    const bool inside = bridge != nullptr && device.master == bridge->index;
    if ((inside && device.index != segment->tunnel) || names_.is_our_veth(device.name)) {
      segment->ports.insert(device.name);
    }
  }
  if (bridge == nullptr) return segment;
  segment->bridge = bridge->index;
  if (told == nullptr) {
    segment->shape.mtu = bridge->mtu;
    const std::string before = alias_of(segment->shape);
    segment->shape.name =
        bridge->alias.starts_with(before) ? bridge->alias.substr(before.size()) : network_id;
  }
  return segment;
}

Result<std::unique_ptr<Segments::Segment>> Segments::make(const Shape& shape) {
  std::optional<NetlinkSocket> inside;
  UniqueFd ns;
  bool created = false;
  Status made = on_own_thread([&]() -> Status {
    MUSTER_TRY(pins_.enter(pin(shape.network_id), &created));
    return open_here(inside, ns);
  });
  if (made.ok()) {
    auto segment = std::make_unique<Segment>(shape, *std::move(inside), std::move(ns));
    made = mend_bridge(*segment, nullptr);
    // One that was there already is somebody's half-made or forgotten one.
    segment->in_step = created;
    if (made.ok()) {
      log_->debug("network {}: namespace {} made", shape.name, pins_.path(pin(shape.network_id)));
      return segment;
    }
  }
  (void)pins_.remove(pin(shape.network_id));
  return fail(made);
}

Result<Segments::Place> Segments::acquire(const v1::Network& network, const std::string& port) {
  const std::string& name = network.spec().annotations().name();
  const Told* told = told_of(network.id());
  MUSTER_ASSIGN(Shape shape, shape_of(network));
  // What managers told is newer than what a task was made with.
  if (told != nullptr) shape = told->shape;
  Segment* segment = segment_of(network.id());
  Status done;
  if (segment == nullptr) {
    auto made = make(shape);
    if (!made) return fail(made.error().with_context("network " + name));
    segment = made->get();
    segments_[network.id()] = *std::move(made);
    if (told != nullptr && segment->in_step) done = install(*segment, told->book.entries());
  } else if (told == nullptr) {
    segment->shape = shape;
  }
  if (done.ok() && segment->bridge == 0) done = mend_bridge(*segment, nullptr);
  if (done.ok() && told != nullptr && !segment->in_step) done = bring_in_step(*segment, nullptr);
  if (!done.ok()) {
    if (segment->ports.empty()) (void)remove(network.id());
    return fail(done.with_context("network " + name));
  }
  const auto before = ports_.find(port);
  if (before != ports_.end() && before->second != network.id()) MUSTER_TRY(release(port));
  ports_[port] = network.id();
  segment->ports.insert(port);
  return place_of(*segment);
}

Status Segments::release(const std::string& port) {
  const auto at = ports_.find(port);
  if (at == ports_.end()) return ok_status();
  const std::string network_id = at->second;
  ports_.erase(at);
  Segment* segment = segment_of(network_id);
  if (segment == nullptr) return ok_status();
  segment->ports.erase(port);
  return segment->ports.empty() ? remove(network_id) : ok_status();
}

Status Segments::remove(const std::string& network_id) {
  const auto at = segments_.find(network_id);
  if (at == segments_.end()) return ok_status();
  // The kernel takes the rest away when it comes to it; until then the next tunnel of this network
  // could not be made.
  MUSTER_TRY(drop_tunnel(*at->second));
  segments_.erase(at);
  return pins_.remove(pin(network_id));
}

Status Segments::remove_unused() {
  std::vector<std::string> unused;
  for (const auto& [id, segment] : segments_) {
    if (segment->ports.empty()) unused.push_back(id);
  }
  for (const std::string& id : unused) MUSTER_TRY(remove(id));
  return ok_status();
}

Status Segments::sweep(const std::set<std::string>& keep) {
  MUSTER_TRY(scan());
  for (auto& [id, segment] : segments_) {
    std::vector<Message> deletions;
    std::set<std::string> gone;
    MUSTER_ASSIGN(const auto devices, list_segment_devices(segment->inside));
    for (const SegmentDevice& device : devices) {
      const bool port = segment->ports.contains(device.name) || names_.is_our_veth(device.name);
      if (!port || keep.contains(device.name)) continue;
      deletions.push_back(delete_link(device.name));
      gone.insert(device.name);
    }
    MUSTER_TRY(segment->inside.run(deletions));
    for (const std::string& port : gone) {
      segment->ports.erase(port);
      ports_.erase(port);
    }
  }
  return remove_unused();
}

// ---------------------------------------------------------------- what managers tell

Status Segments::apply(const NetworkTruth& truth, const NetworkDifference& difference) {
  const std::string& id = truth.network.id();
  if (id.empty()) return failed_precondition("nothing but changes was told of a network");
  const bool fresh = told_of(id) == nullptr;
  MUSTER_ASSIGN(const Shape shape, shape_of(truth.network));
  Told& told = told_[id];
  Segment* segment = segment_of(id);
  if (segment != nullptr && (fresh || !(told.shape == shape))) {
    segment->in_step = false;
    segment->shape = shape;
  }
  const bool refill = fresh || told.shape.ipv6() != shape.ipv6();
  told.shape = shape;
  if (refill) {
    fill(told, truth);
  } else {
    const auto put = [&](const std::string& key, const auto& known, const std::string& with) {
      const auto at = known.find(with);
      told.book.put(key, at == known.end() ? std::nullopt : member_of(at->second, shape.ipv6()));
    };
    for (const auto& task : difference.task_ids) put(key_of_task(task), truth.endpoints, task);
    for (const auto& node : difference.ingress_node_ids) {
      put(key_of_node(node), truth.ingress_nodes, node);
    }
  }
  const std::vector<EntryChange> changes = told.book.take_changes();
  if (segment == nullptr) return ok_status();
  Status done;
  const SegmentEntries& entries = told.book.entries();
  if (!segment->in_step || (segment->tunnel != 0) == entries.tunnel.empty()) {
    done = bring_in_step(*segment, nullptr);
  } else {
    done = run(*segment, changes);
  }
  return done.with_context("network " + shape.name);
}

Status Segments::forget(const std::string& network_id) {
  const auto at = told_.find(network_id);
  if (at != told_.end()) told_.erase(at);
  Segment* segment = segment_of(network_id);
  if (segment == nullptr) return ok_status();
  if (segment->ports.empty()) return remove(network_id);
  segment->in_step = false;
  MUSTER_TRY(drop_tunnel(*segment));
  return mend_entries(*segment, {}, nullptr).with_context("network " + segment->shape.name);
}

Status Segments::set_local_node(const LocalNode& node, const NetworkTruths& truths) {
  if (node == node_) return ok_status();
  node_ = node;
  foreign_.clear();
  for (auto& [id, told] : told_) {
    told.book = {};
    if (const NetworkTruth* truth = truths.find(id)) fill(told, *truth);
    (void)told.book.take_changes();
  }
  Status outcome;
  for (auto& [id, segment] : segments_) {
    segment->in_step = false;
    Status done = told_of(id) != nullptr ? bring_in_step(*segment, nullptr) : move_tunnel(*segment);
    if (!done.ok() && outcome.ok()) outcome = done.with_context("network " + segment->shape.name);
  }
  return outcome;
}

}  // namespace muster::overlay
