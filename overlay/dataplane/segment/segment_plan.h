#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "overlay/dataplane/kernel/mac.h"
#include "overlay/ipam/ip.h"

namespace muster::overlay {

// Something with an address in a network: a task's interface, or a node's own one.
struct Member {
  Mac mac{};
  std::vector<Ip> addresses;
  Ip node;            // data-path address of its node
  bool here = false;  // of this node: needs no way through the tunnel
  bool ready = true;  // wins an address over one that is not

  friend bool operator==(const Member&, const Member&) = default;
};

// What leads to members on other nodes: the tunnel sends a MAC's frames to a node, the bridge sends
// them to the tunnel, and neighbours answer for addresses.
struct SegmentEntries {
  std::map<Mac, Ip> tunnel;  // the same keys are in the bridge's table
  std::map<Ip, Mac> neighbours;

  friend bool operator==(const SegmentEntries&, const SegmentEntries&) = default;
};

// The same as the kernel has it, which may be anything.
struct KernelEntries {
  std::map<Mac, std::set<Ip>> tunnel;  // several for MACs of groups alone
  std::map<Mac, bool> bridge;  // whether it stays when frames of that MAC come from elsewhere
  std::map<Ip, Mac> neighbours;
};

// One request to the kernel. Values replace what is there.
struct EntryChange {
  // In the order in which they are sent.
  enum class Kind {
    kSetTunnel,      // mac, ip = node
    kSetBridge,      // mac
    kSetNeighbour,   // ip, mac
    kDropNeighbour,  // ip
    kDropBridge,     // mac
    kDropTunnel,     // mac, with all its nodes
  };
  Kind kind = Kind::kSetTunnel;
  Mac mac{};
  Ip ip;

  friend bool operator==(const EntryChange&, const EntryChange&) = default;
};

// What the kernel needs, and what is wrong there in words (the latter only where it is asked for).
// Entries are set before others are dropped, so that nothing is without a way in between.
std::vector<EntryChange> entry_changes(const KernelEntries& kernel, const SegmentEntries& wanted,
                                       std::vector<std::string>* differences);
// All of it into a kernel that has nothing.
std::vector<EntryChange> entry_changes(const SegmentEntries& wanted);

// The members of one network, and the entries that follow from them. Each step costs what it
// changes. Where two members claim a MAC or an address (one is leaving), a ready one wins, then the
// one whose key sorts first; one of this node then means that nothing leads elsewhere.
class SegmentBook {
 public:
  // nullopt: it is gone.
  void put(const std::string& key, std::optional<Member> member);
  const SegmentEntries& entries() const { return entries_; }
  const std::map<std::string, Member>& members() const { return members_; }
  // What has changed in entries() since the last call.
  std::vector<EntryChange> take_changes();

 private:
  void touch(const Member& member);
  const Member* winner(const std::set<std::string>& keys) const;
  void settle_mac(const Mac& mac, std::vector<EntryChange>& changes);
  void settle_ip(const Ip& ip, std::vector<EntryChange>& changes);

  std::map<std::string, Member> members_;  // by key
  std::map<Mac, std::set<std::string>> by_mac_;
  std::map<Ip, std::set<std::string>> by_ip_;
  SegmentEntries entries_;
  std::set<Mac> touched_macs_;
  std::set<Ip> touched_ips_;
};

}  // namespace muster::overlay
