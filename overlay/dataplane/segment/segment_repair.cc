// How segments' devices and entries are brought in line with what was told: the same way when a
// network is told of for the first time, when something failed, and when somebody meddled.

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "overlay/dataplane/esp/esp_plan.h"
#include "overlay/dataplane/esp/esp_tunnels.h"
#include "overlay/dataplane/kernel/links.h"
#include "overlay/dataplane/kernel/nft_table.h"
#include "overlay/dataplane/kernel/sysctl.h"
#include "overlay/dataplane/segment/segment_links.h"
#include "overlay/dataplane/segment/segments.h"
#include "overlay/dataplane/segment/vxlan_probe.h"

namespace muster::overlay {
namespace {

// Requests sent at once: what the kernel answers has to fit into the socket's buffer.
constexpr size_t kBatch = 128;

template <class... Args>
void tell(std::vector<std::string>* said, fmt::format_string<Args...> f, Args&&... args) {
  if (said != nullptr) said->push_back(fmt::format(f, std::forward<Args>(args)...));
}

// What an empty tunnel needs of these. Neighbours are the bridge's, and stay.
std::vector<EntryChange> tunnel_changes(const SegmentEntries& entries) {
  return entry_changes(SegmentEntries{entries.tunnel, {}});
}

// Settings that new interfaces of the namespace begin with: none speaks IPv6 by itself.
Status set_defaults() {
  if (!kernel_has_ipv6()) return ok_status();
  MUSTER_TRY(write_sysctl("net.ipv6.conf.default.disable_ipv6", "1"));
  MUSTER_TRY(write_sysctl("net.ipv6.conf.default.addr_gen_mode", "1"));
  return write_sysctl("net.ipv6.conf.default.accept_dad", "0");
}

// Settings that have to stay. The bridge answers for IPv6 neighbours only with IPv6 on. Frames
// between containers are no business of the host's firewall, except in the ingress network, whose
// rules see to them.
std::vector<std::pair<std::string, std::string>> lasting_settings(bool ingress) {
  std::vector<std::pair<std::string, std::string>> out = {
      {"net.ipv6.conf.br0.disable_ipv6", "0"}, {"net.bridge.bridge-nf-call-arptables", "0"}};
  if (ingress) return out;
  out.emplace_back("net.bridge.bridge-nf-call-iptables", "0");
  out.emplace_back("net.bridge.bridge-nf-call-ip6tables", "0");
  return out;
}

// What the kernel lacks has no such setting.
Status keep_settings(bool ingress, std::vector<std::string>* said) {
  for (const auto& [key, value] : lasting_settings(ingress)) {
    const auto now = read_sysctl(key);
    if (!now || *now == value) continue;
    tell(said, "{} was {}, now {}", key, *now, value);
    MUSTER_TRY(write_sysctl(key, value));
  }
  return ok_status();
}

}  // namespace

// ---------------------------------------------------------------- bridge, ports, settings

Status Segments::mend_bridge(Segment& segment, Said* said) {
  MUSTER_ASSIGN(auto devices, list_segment_devices(segment.inside));
  const SegmentDevice* bridge = find_device(devices, kSegmentBridge);
  if (bridge == nullptr || bridge->index != segment.bridge) {
    if (bridge == nullptr) tell(said, "the bridge was missing");
    const Status made = in_namespace(segment.ns.get(), [&]() -> Status {
      MUSTER_TRY(set_defaults());
      std::vector<Message> batch;
      batch.push_back(new_segment_bridge(segment.shape.mtu));
      batch.push_back(set_alias(kSegmentBridge, alias_of(segment.shape)));
      MUSTER_TRY(segment.inside.run(batch));
      return keep_settings(segment.shape.ingress, nullptr);
    });
    if (refused_with(made, EOPNOTSUPP)) {
      return failed_precondition("this kernel has no bridges (module bridge): {}", made.message());
    }
    MUSTER_TRY(made);
    MUSTER_ASSIGN(devices, list_segment_devices(segment.inside));
    bridge = find_device(devices, kSegmentBridge);
    if (bridge == nullptr) return internal_error("the bridge vanished");
    segment.bridge = bridge->index;
    // Else it would follow its ports.
    MUSTER_TRY(segment.inside.run(set_mtu(bridge->index, segment.shape.mtu)));
  } else {
    if (!bridge->up) {
      tell(said, "the bridge was down");
      MUSTER_TRY(segment.inside.run(set_up(bridge->index)));
    }
    if (bridge->mtu != segment.shape.mtu) {
      tell(said, "the bridge's MTU was {}, now {}", bridge->mtu, segment.shape.mtu);
      MUSTER_TRY(segment.inside.run(set_mtu(bridge->index, segment.shape.mtu)));
    }
  }
  return mend_ports(segment, devices, said);
}

Status Segments::mend_ports(Segment& segment, const std::vector<SegmentDevice>& devices,
                            Said* said) {
  std::vector<Message> batch;
  for (const SegmentDevice& device : devices) {
    if (!segment.ports.contains(device.name)) continue;
    if (device.master != segment.bridge) {
      tell(said, "interface {} was not in the bridge", device.name);
      batch.push_back(set_master(device.index, segment.bridge));
    }
    if (device.mtu != segment.shape.mtu) {
      tell(said, "the MTU of interface {} was {}, now {}", device.name, device.mtu,
           segment.shape.mtu);
      batch.push_back(set_mtu(device.index, segment.shape.mtu));
    }
    if (!device.up) {
      tell(said, "interface {} was down", device.name);
      batch.push_back(set_up(device.index));
    }
  }
  return segment.inside.run(batch);
}

Status Segments::mend_settings(Segment& segment, Said* said) {
  return in_namespace(segment.ns.get(), [&] { return keep_settings(segment.shape.ingress, said); });
}

// Without its pin a namespace would be lost with this process.
Status Segments::mend_pin(Segment& segment, Said* said) {
  struct stat mine {};
  struct stat pinned {};
  if (fstat(segment.ns.get(), &mine) != 0) return errno_status(errno, "look at a namespace");
  const std::string path = pins_.path(pin(segment.shape.network_id));
  if (stat(path.c_str(), &pinned) == 0 && pinned.st_ino == mine.st_ino &&
      pinned.st_dev == mine.st_dev) {
    return ok_status();
  }
  tell(said, "the namespace was no longer held by {}", path);
  return pins_.pin(pin(segment.shape.network_id), segment.ns.get());
}

// ---------------------------------------------------------------- tunnel

Status Segments::make_tunnel(Segment& segment) {
  const Shape& shape = segment.shape;
  if (shape.vni == 0) return failed_precondition("it has no VNI yet");
  if (shape.encrypted && esp_ == nullptr) {
    return failed_precondition(
        "it is to be encrypted, which this node cannot do, and nothing of it "
        "is sent in plain text");
  }
  if (shape.encrypted) MUSTER_TRY(esp_->ready(shape.vni));
  const auto local = Ip::parse(node_.data_path_addr);
  if (!local) return failed_precondition("this node has no data-path address");
  const TunnelSpec spec{shape.vni, *local, static_cast<uint16_t>(node_.data_path_port)};
  Status made = host_.run(new_segment_tunnel(spec, shape.mtu, segment.ns.get()));
  if (refused_with(made, EOPNOTSUPP)) {
    return failed_precondition("{}: {}", kNoVxlan, made.message());
  }
  if (made.code() == StatusCode::kAlreadyExists) {
    return already_exists("another program or instance on this node uses VNI {} on UDP port {}",
                          spec.vni, spec.port);
  }
  MUSTER_TRY(made);
  vxlan_seen_ = true;
  vxlan_trouble_.clear();
  MUSTER_ASSIGN(const auto devices, list_segment_devices(segment.inside));
  const SegmentDevice* tunnel = find_device(devices, kSegmentTunnel);
  if (tunnel == nullptr) return internal_error("the tunnel vanished");
  segment.tunnel = tunnel->index;
  std::vector<Message> batch;
  batch.push_back(set_master(tunnel->index, segment.bridge));
  batch.push_back(set_quiet(tunnel->index));
  batch.push_back(set_up(tunnel->index));
  // A tunnel that is down sends nothing.
  made = mend_mark(segment, nullptr);
  if (made.ok()) made = segment.inside.run(batch);
  if (made.ok()) {
    log_->debug("network {}: tunnel made, VNI {} at {} port {}", shape.name, spec.vni,
                spec.local.str(), spec.port);
    return made;
  }
  (void)drop_tunnel(segment);
  if (refused_with(made, EADDRINUSE)) {
    return already_exists("UDP port {} is in use by another program on this node", spec.port);
  }
  return made;
}

const std::string& Segments::vxlan_trouble() {
  if (vxlan_seen_) return vxlan_trouble_;
  if (auto tried = overlay::vxlan_trouble()) vxlan_trouble_ = *std::move(tried);
  vxlan_seen_ = vxlan_trouble_.empty();
  return vxlan_trouble_;
}

// What leaves by the tunnel of an encrypted network is marked for the policies of IPsec.
Status Segments::mend_mark(Segment& segment, Said* said) {
  if (!segment.shape.encrypted || esp_ == nullptr) return ok_status();
  if (segment.nft == nullptr) {
    MUSTER_TRY(in_namespace(segment.ns.get(), [&]() -> Status {
      MUSTER_ASSIGN(segment.nft, LibNft::make());
      return ok_status();
    }));
  }
  const std::string name = esp_->mark_table_name();
  MUSTER_ASSIGN(const KeptTable kept,
                keep_table(*segment.nft,
                           {"netdev", name, esp_mark_table(name, kSegmentTunnel, esp_->mark())}));
  if (kept.made) tell(said, "what leaves by the tunnel was not marked to be encrypted");
  return ok_status();
}

Status Segments::drop_tunnel(Segment& segment) {
  if (segment.tunnel == 0) return ok_status();
  MUSTER_TRY(segment.inside.run(delete_link(kSegmentTunnel)));
  segment.tunnel = 0;
  return ok_status();
}

// False: it has to be made anew.
bool Segments::mend_traits(Segment& segment, const SegmentDevice& tunnel, Said* said) {
  const Ip local = tunnel.tunnel ? tunnel.tunnel->local : Ip{};
  const TunnelTraitsMending mending = overlay::mend_traits(tunnel.index, local, tunnel.traits);
  if (mending.said.empty()) {
    segment.remade_for.clear();
    return true;
  }
  // A kernel that makes it no other way is let be: making it anew at each look would cost packets.
  if (segment.remade_for == tunnel.traits) return true;
  for (const std::string& what : mending.said) tell(said, "the tunnel's {}", what);
  if (mending.request) {
    const Status changed = segment.inside.run(*mending.request);
    if (changed.ok()) return true;
    // Older kernels can change less.
    log_->debug("network {}: tunnel made anew: {}", segment.shape.name, changed.message());
  }
  segment.remade_for = tunnel.traits;
  return false;
}

Status Segments::mend_tunnel(Segment& segment, const SegmentEntries& entries, Said* said) {
  const bool wanted = !entries.tunnel.empty();
  MUSTER_ASSIGN(const auto devices, list_segment_devices(segment.inside));
  const SegmentDevice* there = find_device(devices, kSegmentTunnel);
  const bool expected = segment.tunnel != 0;
  segment.tunnel = there == nullptr ? 0 : there->index;
  if (!wanted) {
    if (there != nullptr && !expected) tell(said, "there was a tunnel that leads nowhere");
    return drop_tunnel(segment);
  }
  const auto local = Ip::parse(node_.data_path_addr);
  const TunnelSpec spec{segment.shape.vni, local ? *local : Ip{},
                        static_cast<uint16_t>(node_.data_path_port)};
  if (there == nullptr || there->tunnel != spec || !mend_traits(segment, *there, said)) {
    if (there == nullptr && expected) tell(said, "the tunnel was missing");
    if (there != nullptr && there->tunnel != spec) {
      tell(said, "the tunnel stood at another address, port or VNI");
    }
    // The kernel has no two of one VNI and port: what is sent until the next one has its entries is
    // lost.
    MUSTER_TRY(drop_tunnel(segment));
    MUSTER_TRY(make_tunnel(segment));
    return run(segment, tunnel_changes(entries));
  }
  MUSTER_TRY(mend_mark(segment, said));
  std::vector<Message> batch;
  const uint32_t mtu = segment.shape.mtu;
  if (there->mtu != mtu) {
    tell(said, "the tunnel's MTU was {}, now {}", there->mtu, mtu);
    batch.push_back(set_mtu(there->index, mtu));
  }
  const bool joined = there->master == segment.bridge;
  if (!joined) {
    tell(said, "the tunnel was not in the bridge");
    batch.push_back(set_master(there->index, segment.bridge));
  }
  if (!joined || !there->quiet) {
    if (joined) tell(said, "the bridge flooded to the tunnel, learnt from it or asked through it");
    batch.push_back(set_quiet(there->index));
  }
  if (!there->up) {
    tell(said, "the tunnel was down");
    batch.push_back(set_up(there->index));
  }
  return segment.inside.run(batch);
}

// Of a network that was not told of since the restart: what was there goes on at the new place.
Status Segments::move_tunnel(Segment& segment) {
  MUSTER_ASSIGN(const auto devices, list_segment_devices(segment.inside));
  const SegmentDevice* there = find_device(devices, kSegmentTunnel);
  const auto local = Ip::parse(node_.data_path_addr);
  if (there == nullptr || !there->tunnel || !local || segment.bridge == 0) return ok_status();
  if (there->tunnel->local == *local && there->tunnel->port == node_.data_path_port) {
    return ok_status();
  }
  MUSTER_ASSIGN(const KernelEntries kernel,
                list_segment_entries(segment.inside, segment.bridge, segment.tunnel));
  SegmentEntries entries{{}, kernel.neighbours};
  for (const auto& [mac, nodes] : kernel.tunnel) {
    if (nodes.begin()->v6 == local->v6) entries.tunnel[mac] = *nodes.begin();
  }
  MUSTER_TRY(drop_tunnel(segment));
  return install(segment, entries);
}

// ---------------------------------------------------------------- entries

Status Segments::run(Segment& segment, const std::vector<EntryChange>& changes) {
  Status outcome;
  std::vector<Message> batch;
  batch.reserve(std::min(changes.size(), kBatch));
  for (size_t i = 0; i < changes.size(); ++i) {
    batch.push_back(entry_message(changes[i], segment.bridge, segment.tunnel));
    if (batch.size() < kBatch && i + 1 < changes.size()) continue;
    Status done = segment.inside.run(batch);
    if (outcome.ok()) outcome = std::move(done);
    batch.clear();
  }
  if (!outcome.ok()) segment.in_step = false;
  return outcome;
}

// Into a segment that has neither tunnel nor entries.
Status Segments::install(Segment& segment, const SegmentEntries& entries) {
  segment.in_step = false;
  if (!entries.tunnel.empty()) {
    MUSTER_TRY(make_tunnel(segment));
    MUSTER_TRY(run(segment, entry_changes(entries)));
  }
  segment.in_step = true;
  return ok_status();
}

Status Segments::mend_entries(Segment& segment, const SegmentEntries& wanted, Said* said) {
  MUSTER_ASSIGN(KernelEntries kernel,
                list_segment_entries(segment.inside, segment.bridge, segment.tunnel));
  std::vector<EntryChange> changes = entry_changes(kernel, wanted, nullptr);
  if (said != nullptr && !changes.empty()) {
    // The bridge's table changes by itself while it is listed, and rows can be left out: only what
    // a second look finds, too, is different.
    MUSTER_ASSIGN(kernel, list_segment_entries(segment.inside, segment.bridge, segment.tunnel));
    changes = entry_changes(kernel, wanted, said);
  }
  return run(segment, changes);
}

Status Segments::bring_in_step(Segment& segment, Said* said) {
  const bool was_in_step = std::exchange(segment.in_step, false);
  MUSTER_TRY(mend_bridge(segment, said));
  const Told* told = told_of(segment.shape.network_id);
  // After a restart what was there stays as it is until managers have told what should be.
  if (told == nullptr) return ok_status();
  const SegmentEntries& entries = told->book.entries();
  // What could not be done before is no news.
  if (!was_in_step) said = nullptr;
  MUSTER_TRY(mend_settings(segment, said));
  MUSTER_TRY(mend_tunnel(segment, entries, said));
  MUSTER_TRY(mend_entries(segment, entries, said));
  segment.in_step = true;
  return ok_status();
}

void Segments::repair(std::vector<std::string>& said) {
  for (auto& [id, segment] : segments_) {
    Said differences;
    Status done = mend_pin(*segment, &differences);
    if (done.ok()) done = bring_in_step(*segment, &differences);
    segment->trouble = done.message();
    // What could not be mended is no repair; see troubles().
    if (!done.ok()) continue;
    for (const std::string& difference : differences) {
      said.push_back(fmt::format("network {}: {}", segment->shape.name, difference));
    }
  }
  // One that could not be removed when its last port went.
  (void)remove_unused();
}

std::vector<std::string> Segments::troubles() const {
  std::vector<std::string> out;
  for (const auto& [id, segment] : segments_) {
    if (segment->trouble.empty()) continue;
    out.push_back(fmt::format("network {} is not as it should be here: {}", segment->shape.name,
                              segment->trouble));
  }
  return out;
}

}  // namespace muster::overlay
