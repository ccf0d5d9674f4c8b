#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/status.h"
#include "overlay/dataplane/esp/esp_lane.h"
#include "overlay/dataplane/esp/esp_plan.h"
#include "overlay/dataplane/esp/esp_probe.h"
#include "overlay/dataplane/esp/esp_socket.h"
#include "overlay/dataplane/esp/esp_wire.h"
#include "overlay/dataplane/kernel/names.h"
#include "overlay/dataplane/kernel/netlink.h"
#include "overlay/dataplane/node_network.h"

namespace muster::overlay {

class LibNft;

// IPsec between this node and others for encrypted networks: states and policies of the kernel, and
// rules that let nothing of these networks pass in plain text.
//
// Three things keep plain text from leaving, each by itself: what a segment's tunnel sends is
// marked in the segment's namespace, and marked packets that no policy encrypts are dropped by one
// for everybody else; a policy without its state drops; and the guard in the host's namespace drops
// what names an encrypted network and was not encrypted, leaving or coming in.
//
// Keys are kept in memory and in the kernel alone. After a restart what the kernel has goes on
// until managers have told the keys. Not thread-safe; lives in the host's network namespace.
class EspTunnels {
 public:
  // Does not own `nft`, which works in the host's namespace.
  EspTunnels(const Names& names, LibNft& nft, EspOptions options, Log log);

  // Learns what a former process has guarded.
  Status scan();
  // Why this node takes no part in networks with such a data path, as was found when a network was
  // told or at the last repair(); empty: it does.
  const std::string& trouble(bool v6);
  // What of others' packets does not arrive here though this node can encrypt, and why; or what
  // repair() could not mend. Empty: nothing.
  std::string limitation() const;

  // Fails, too, when everything is in force but what others send in UDP.
  Status set_encryption(const Encryption& encryption);
  // Before tunnels of these networks are made, and after those of others are gone. Peers that are
  // gone stay until repair(): they may come back with the next task.
  Status set_use(const EspUse& use);
  // Whether a tunnel of this network may be made: nothing of it leaves in plain text.
  Status ready(uint32_t vni) const;
  uint32_t mark() const { return esp_mark(names_.instance()); }
  std::string mark_table_name() const { return "muster_esp"; }

  // `tunnels`: the VNIs of all tunnels there are.
  void repair(const std::set<uint32_t>& tunnels, std::vector<std::string>& said);
  // Everything, at `swarm leave`.
  Status remove();

 private:
  using Said = std::vector<std::string>;
  struct Seen {
    uint64_t packets = 0;
    uint64_t failures = 0;
    uint64_t forged = 0;
  };
  struct Guard {
    uint16_t port = 0;
    std::set<uint32_t> vnis;
    friend bool operator==(const Guard&, const Guard&) = default;
  };

  EspOwner owner() const;
  std::string guard_name() const { return "esp_" + names_.table(); }
  Status bring_in_step(Said* said);
  Status keep_guard(Said* said);
  Status keep_states(Said* said);
  void listen(uint32_t port);
  void choose_lanes(const EspKernel& kernel);
  void note_guard_counts(std::string_view listing);
  void note_refused(const EspKernel& kernel);

  const Names& names_;
  LibNft& nft_;
  Log log_;
  EncryptionProbe probe_;
  std::array<std::optional<std::string>, 2> trouble_;  // by family; nullopt: to be asked
  std::optional<NetlinkSocket> socket_;
  const HoldEncapsulation hold_;
  const std::function<void(const EspCounts&)> count_;
  const std::function<WallTime()> now_;
  EspCounts counts_;                   // that have not been told
  EncapsulationSocket encapsulation_;  // where nobody else holds it
  Status listening_;                   // whether the sockets are there
  EspLaneFile lanes_;
  Encryption encryption_;
  EspUse use_;
  std::set<Ip> peers_;                     // those of use_, and former ones
  std::set<uint32_t> adopted_;             // VNIs of a former process
  std::optional<Guard> guard_;             // in force
  std::pair<uint64_t, uint64_t> dropped_;  // by the guard
  std::map<Ip, EspSent> sent_;
  std::map<EspStateId, Seen> seen_;
  std::map<EspStateId, EspKernelState> known_;  // by which states that are made again go on
  std::set<Ip> unheard_;  // of whose packets none was accepted, at the last look
  std::vector<Ip> clashes_;
  bool in_step_ = false;
  bool used_ = false;         // the kernel may have states or policies
  std::string trouble_left_;  // what repair() could not mend
};

}  // namespace muster::overlay
