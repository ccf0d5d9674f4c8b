#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "overlay/dataplane/node_network.h"
#include "overlay/dataplane/told/network_truth.h"
#include "overlay/ipam/ip.h"

namespace muster::overlay {

// IPsec between nodes for encrypted networks: which security associations ("states") and policies
// the kernel is to have. Pure.
//
// Two nodes have a state for each direction, for all encrypted networks they share: inside, the
// VXLAN header says which it is. Its key is derived from a key of the ring, the two addresses and a
// lane. A lane is one of kEspLanes keys that a sender may use in turn: a sender whose state is new
// does not know what it has counted to, and must not use the numbers of before with the same key,
// which the receiver would take for replays. The receiver has the states of all lanes of all keys.
//
// It keeps the numbers that it has accepted while it has the state: what fails to be accepted never
// makes it forget them. Anybody can make packets fail, and could then send again what was recorded.
// So it is the sender that has to go on above what it has sent (first_number() in esp_lane.h).

inline constexpr uint32_t kEspLanes = 4;

// What encrypted networks this node takes part in, and with whom.
struct EspUse {
  std::optional<Ip> self;
  uint16_t port = 0;  // of VXLAN
  std::set<uint32_t> vnis;
  std::set<Ip> peers;  // of the same family

  friend bool operator==(const EspUse&, const EspUse&) = default;
};
EspUse esp_use(const NetworkTruths& truths, const LocalNode& node);

struct EspStateId {
  Ip to;
  uint32_t spi = 0;

  friend bool operator==(const EspStateId&, const EspStateId&) = default;
  friend auto operator<=>(const EspStateId&, const EspStateId&) = default;
};
struct EspState {
  Ip from;
  std::string key;        // of AES-256, and four bytes of salt (RFC 4106)
  uint16_t udp_port = 0;  // travels in UDP; 0: by itself

  friend bool operator==(const EspState&, const EspState&) = default;
};
// Packet numbers of a state (RFC 4303, 64 bits), as the kernel keeps them.
struct EspNumbers {
  uint64_t sent = 0;      // the last that was sent
  uint64_t received = 0;  // the highest that was accepted
  // Which of those up to it were: the kernel's own bits, of the length that esp_wire gives them.
  std::vector<uint32_t> window;

  friend bool operator==(const EspNumbers&, const EspNumbers&) = default;
};
// A state that the kernel has.
struct EspKernelState {
  EspState state;
  EspNumbers numbers;
  uint64_t packets = 0;   // taken in or sent
  uint64_t failures = 0;  // forged, or taken for replays
  uint64_t forged = 0;    // of those
};
struct EspPlan {
  std::map<EspStateId, EspState> states;
  // By peer, the state that is sent with. Whatever is marked and goes elsewhere is dropped.
  std::map<Ip, uint32_t> policies;
  uint64_t first = 0;  // a state that is new and sent with begins above this number
  // What the kernel has had of states (remember()), which go on with their numbers when they are
  // made again. nullptr: nothing.
  const std::map<EspStateId, EspKernelState>* known = nullptr;
};

// The key that is sent with: the newest that is used. nullptr: none.
const EncryptionKey* sending_key(const Encryption& encryption);
// Tells the sender at a receiver, the key and the lane. Of two IPv4 addresses only those have the
// same that differ in the first four bits alone.
uint32_t esp_spi(const Ip& from, uint64_t key_number, uint32_t lane);
// The lane of a state of this key; nullopt: it is of another.
std::optional<uint32_t> esp_lane(uint32_t spi, uint64_t key_number);
Result<EspState> esp_state(const EncryptionKey& key, const Ip& from, const Ip& to, uint32_t lane,
                           uint32_t udp_port);

// `lanes`: by peer, where it is not 0. Peers that cannot be told from one another, or from this
// node, are left out and named in `clashes`.
Result<EspPlan> esp_plan(const Ip& self, const std::set<Ip>& peers, const Encryption& encryption,
                         const std::map<Ip, uint32_t>& lanes, std::vector<Ip>* clashes);

// What the kernel has of it.
struct EspKernel {
  std::map<EspStateId, EspKernelState> states;
  std::map<Ip, uint32_t> policies;  // spi 0: it does not say
  std::set<bool> blocks;            // families (v6) for which marked packets are dropped
};

// Adds what the kernel has to what is known: what was sent and accepted is remembered as long as
// the key is in the ring, whoever takes the state away meanwhile. A node that takes part in no
// encrypted network is told no ring, and forgets nothing.
void remember(EspKernel kernel, const Encryption& encryption,
              std::map<EspStateId, EspKernelState>* known);

// The port by which most of its states travel in UDP; 0: none does.
uint16_t udp_port_of(const EspKernel& kernel);

// One request to the kernel, in the order in which they are sent.
struct EspChange {
  enum class Kind { kBlock, kDropState, kAddState, kSetPolicy, kDropPolicy };
  Kind kind = Kind::kBlock;
  bool v6 = false;  // kBlock
  EspStateId id;    // states; of policies the peer and what it is sent with
  EspState state;   // kAddState
  EspNumbers numbers = {};
};
// What has to be done, and in words what was wrong (where it is asked for). A state that is no
// longer wanted goes last. One of the same key that is made anew, since it travels in another way,
// goes on with the numbers that `kernel` has: nothing that was accepted by then is accepted again,
// and it sends above what it can have sent since.
std::vector<EspChange> esp_changes(const EspKernel& kernel, const EspPlan& wanted, const Ip& self,
                                   std::vector<std::string>* differences);

// The lane to send in to this peer: that of a state the kernel has; else the one after the last
// that was used with this key; else `first`.
struct EspSent {
  uint64_t key_number = 0;
  uint32_t lane = 0;
};
uint32_t choose_lane(const EspKernel& kernel, const Ip& self, const Ip& peer, uint64_t key_number,
                     const std::optional<EspSent>& before, uint32_t first);

// ---------------------------------------------------------------- rules

// In a segment's namespace: marks what leaves by its tunnel, for the policies.
std::string esp_mark_table(std::string_view table, std::string_view device, uint32_t mark);
// In the host's: what is of these networks and was not encrypted neither leaves nor comes in.
std::string esp_guard_table(std::string_view table, uint16_t port, const std::set<uint32_t>& vnis,
                            uint32_t reqid);
// The networks that a guard's listing names.
std::set<uint32_t> guarded_vnis(std::string_view listing);
// Packets that the guard has dropped so far: leaving, coming in.
std::pair<uint64_t, uint64_t> guard_counts(std::string_view listing);

// This instance's own, so that several on a host do not touch each other's.
uint32_t esp_reqid(std::string_view instance);
uint32_t esp_mark(std::string_view instance);

}  // namespace muster::overlay
