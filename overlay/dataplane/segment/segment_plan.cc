#include "overlay/dataplane/segment/segment_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace muster::overlay {
namespace {

using Kind = EntryChange::Kind;

// Names a few differences of a sort and counts the rest: a flushed table of thousands of entries is
// one trouble, not thousands.
class Differences {
 public:
  // `rest`: how those that are only counted are summed up: "entries were missing".
  Differences(std::vector<std::string>* out, std::string_view rest) : out_(out), rest_(rest) {}
  ~Differences() {
    if (more_ > 0) out_->push_back(fmt::format("{} more {}", more_, rest_));
  }
  Differences(const Differences&) = delete;
  Differences& operator=(const Differences&) = delete;

  template <class... Args>
  void say(fmt::format_string<Args...> f, Args&&... args) {
    if (out_ == nullptr) return;
    constexpr size_t kNamed = 4;
    if (named_ == kNamed) {
      ++more_;
      return;
    }
    ++named_;
    out_->push_back(fmt::format(f, std::forward<Args>(args)...));
  }

 private:
  std::vector<std::string>* out_;
  std::string_view rest_;
  size_t named_ = 0;
  size_t more_ = 0;
};

void in_order(std::vector<EntryChange>& changes) {
  std::stable_sort(changes.begin(), changes.end(),
                   [](const EntryChange& a, const EntryChange& b) { return a.kind < b.kind; });
}

std::string list_of(const std::set<Ip>& ips) {
  std::string out;
  for (const Ip& ip : ips) out += (out.empty() ? "" : " and ") + ip.str();
  return out;
}

void tunnel_changes(const KernelEntries& kernel, const SegmentEntries& wanted,
                    std::vector<EntryChange>& changes, std::vector<std::string>* differences) {
  Differences missing(differences, "entries of the tunnel were missing");
  Differences wrong(differences, "entries of the tunnel led to a wrong node");
  Differences stray(differences, "entries of the tunnel were too many");
  for (const auto& [mac, node] : wanted.tunnel) {
    const auto there = kernel.tunnel.find(mac);
    if (there == kernel.tunnel.end()) {
      missing.say("the tunnel had no entry for {} on node {}", to_string(mac), node.str());
    } else if (there->second.size() == 1 && *there->second.begin() == node) {
      continue;
    } else {
      wrong.say("the tunnel led {} to {} instead of {}", to_string(mac), list_of(there->second),
                node.str());
    }
    changes.push_back({Kind::kSetTunnel, mac, node});
  }
  for (const auto& [mac, nodes] : kernel.tunnel) {
    if (wanted.tunnel.contains(mac)) continue;
    stray.say("the tunnel led {} to {}, where it is not", to_string(mac), list_of(nodes));
    changes.push_back({Kind::kDropTunnel, mac, {}});
  }
}

void bridge_changes(const KernelEntries& kernel, const SegmentEntries& wanted,
                    std::vector<EntryChange>& changes, std::vector<std::string>* differences) {
  Differences missing(differences, "entries of the bridge were missing");
  Differences loose(differences, "entries of the bridge could be moved");
  Differences stray(differences, "entries of the bridge were too many");
  for (const auto& [mac, node] : wanted.tunnel) {
    const auto there = kernel.bridge.find(mac);
    if (there == kernel.bridge.end()) {
      missing.say("the bridge had no entry that leads {} to the tunnel", to_string(mac));
    } else if (!there->second) {
      loose.say("the bridge's entry for {} was one that frames can move", to_string(mac));
    } else {
      continue;
    }
    changes.push_back({Kind::kSetBridge, mac, {}});
  }
  for (const auto& [mac, fixed] : kernel.bridge) {
    if (wanted.tunnel.contains(mac)) continue;
    stray.say("the bridge led {} to the tunnel, where it is not", to_string(mac));
    changes.push_back({Kind::kDropBridge, mac, {}});
  }
}

void neighbour_changes(const KernelEntries& kernel, const SegmentEntries& wanted,
                       std::vector<EntryChange>& changes, std::vector<std::string>* differences) {
  Differences missing(differences, "neighbours were missing");
  Differences wrong(differences, "neighbours were wrong");
  Differences stray(differences, "neighbours were too many");
  for (const auto& [ip, mac] : wanted.neighbours) {
    const auto there = kernel.neighbours.find(ip);
    if (there == kernel.neighbours.end()) {
      missing.say("neighbour {} at {} was missing", ip.str(), to_string(mac));
    } else if (there->second != mac) {
      wrong.say("neighbour {} was at {} instead of {}", ip.str(), to_string(there->second),
                to_string(mac));
    } else {
      continue;
    }
    changes.push_back({Kind::kSetNeighbour, mac, ip});
  }
  for (const auto& [ip, mac] : kernel.neighbours) {
    if (wanted.neighbours.contains(ip)) continue;
    stray.say("neighbour {} at {} was one too many", ip.str(), to_string(mac));
    changes.push_back({Kind::kDropNeighbour, {}, ip});
  }
}

}  // namespace

std::vector<EntryChange> entry_changes(const KernelEntries& kernel, const SegmentEntries& wanted,
                                       std::vector<std::string>* differences) {
  std::vector<EntryChange> changes;
  tunnel_changes(kernel, wanted, changes, differences);
  bridge_changes(kernel, wanted, changes, differences);
  neighbour_changes(kernel, wanted, changes, differences);
  in_order(changes);
  return changes;
}

std::vector<EntryChange> entry_changes(const SegmentEntries& wanted) {
  std::vector<EntryChange> changes;
  changes.reserve(wanted.tunnel.size() * 2 + wanted.neighbours.size());
  for (const auto& [mac, node] : wanted.tunnel) changes.push_back({Kind::kSetTunnel, mac, node});
  for (const auto& [mac, node] : wanted.tunnel) changes.push_back({Kind::kSetBridge, mac, {}});
  for (const auto& [ip, mac] : wanted.neighbours) changes.push_back({Kind::kSetNeighbour, mac, ip});
  return changes;
}

void SegmentBook::put(const std::string& key, std::optional<Member> member) {
  const auto at = members_.find(key);
  if (at != members_.end()) {
    if (member && *member == at->second) return;
    const auto forget = [&key](auto& index, const auto& value) {
      const auto entry = index.find(value);
      if (entry != index.end() && entry->second.erase(key) != 0 && entry->second.empty()) {
        index.erase(entry);
      }
    };
    touch(at->second);
    forget(by_mac_, at->second.mac);
    for (const Ip& ip : at->second.addresses) forget(by_ip_, ip);
    members_.erase(at);
  }
  if (!member) return;
  touch(*member);
  by_mac_[member->mac].insert(key);
  for (const Ip& ip : member->addresses) by_ip_[ip].insert(key);
  members_.emplace(key, *std::move(member));
}

void SegmentBook::touch(const Member& member) {
  touched_macs_.insert(member.mac);
  touched_ips_.insert(member.addresses.begin(), member.addresses.end());
}

const Member* SegmentBook::winner(const std::set<std::string>& keys) const {
  const Member* best = nullptr;
  for (const std::string& key : keys) {
    const Member& member = members_.at(key);
    if (best == nullptr || (member.ready && !best->ready)) best = &member;
  }
  return best != nullptr && best->here ? nullptr : best;
}

void SegmentBook::settle_mac(const Mac& mac, std::vector<EntryChange>& changes) {
  const auto claims = by_mac_.find(mac);
  const Member* member = claims == by_mac_.end() ? nullptr : winner(claims->second);
  const auto now = entries_.tunnel.find(mac);
  if (member == nullptr) {
    if (now == entries_.tunnel.end()) return;
    changes.push_back({Kind::kDropBridge, mac, {}});
    changes.push_back({Kind::kDropTunnel, mac, {}});
    entries_.tunnel.erase(now);
    return;
  }
  if (now != entries_.tunnel.end() && now->second == member->node) return;
  changes.push_back({Kind::kSetTunnel, mac, member->node});
  if (now == entries_.tunnel.end()) changes.push_back({Kind::kSetBridge, mac, {}});
  entries_.tunnel[mac] = member->node;
}

void SegmentBook::settle_ip(const Ip& ip, std::vector<EntryChange>& changes) {
  const auto claims = by_ip_.find(ip);
  const Member* member = claims == by_ip_.end() ? nullptr : winner(claims->second);
  const auto now = entries_.neighbours.find(ip);
  if (member == nullptr) {
    if (now == entries_.neighbours.end()) return;
    changes.push_back({Kind::kDropNeighbour, {}, ip});
    entries_.neighbours.erase(now);
    return;
  }
  if (now != entries_.neighbours.end() && now->second == member->mac) return;
  changes.push_back({Kind::kSetNeighbour, member->mac, ip});
  entries_.neighbours[ip] = member->mac;
}

std::vector<EntryChange> SegmentBook::take_changes() {
  std::vector<EntryChange> changes;
  for (const Mac& mac : touched_macs_) settle_mac(mac, changes);
  for (const Ip& ip : touched_ips_) settle_ip(ip, changes);
  touched_macs_.clear();
  touched_ips_.clear();
  in_order(changes);
  return changes;
}

}  // namespace muster::overlay
