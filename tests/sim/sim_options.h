#pragma once

#include <bitset>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "base/time.h"

namespace muster::sim {

// Kinds of trouble. Each can be left out of a run: the search for what a failure needs does that.
enum class Trouble : uint8_t {
  kAgentKilled,
  kAgentRestarts,
  kAgentCut,
  kReboot,
  kMemory,  // hosts lose and regain some
  kContainerEnds,
  kTaskFails,  // preparations and starts fail
  kManagerKilled,
  kManagerCut,
  kOneWay,
  kDiskFull,
  kDiskStuck,
  kDiskSlow,
  kManagerHangs,
  kTransfer,
  // Since then; seeds of before replay without them.
  kManagerStops,  // in order, with a goodbye
  kDiskLost,      // a manager comes back with an empty disk
  kRoles,         // managers are demoted and promoted
  kClocks,        // clocks of managers run fast or slow, and step
  kLossyLanes,    // between managers messages are lost and doubled
  kAgentMidway,   // agents are killed between two things they do
  kAgentFrozen,   // agents are stopped for a while
  kSlowPulls,     // images take long to come
  kUnhealthy,     // containers fail their health checks
  kCertificates,  // nodes join with tokens and hold certificates, which end, and are removed
  kRootRotation,  // then the root is rotated, too
  kHours,         // wall clocks of managers step by hours; never drawn, only asked for
  kEnd
};

class Troubles {
 public:
  static constexpr size_t kCount = static_cast<size_t>(Trouble::kEnd);

  static Troubles all();
  // What there was before kManagerStops.
  static Troubles first_ones();
  // "killed,cut": INVALID_ARGUMENT names what is none.
  static Result<Troubles> parse(std::string_view names);
  std::string names() const;  // in the same form

  bool has(Trouble trouble) const { return set_[static_cast<size_t>(trouble)]; }
  void put(Trouble trouble, bool on = true) { set_[static_cast<size_t>(trouble)] = on; }
  bool none() const { return set_.none(); }
  Troubles without(const Troubles& others) const;

 private:
  std::bitset<kCount> set_;
};
std::string_view name_of(Trouble trouble);

// Faults of what the simulator itself stands in for: disks that lie, parts that are wired wrongly.
// Each must break a rule (sim_mutants_main.cc); the driver's own are in raft/node/mutant.h.
enum class SimMutant : uint8_t {
  kNone,
  kDiskTellsEarly,       // a write counts as synced before it is
  kDiskLosesSynced,      // a kill takes what was synced, too
  kHardStateForgotten,   // a restart remembers neither term nor vote
  kInstallNotKept,       // a snapshot from elsewhere is told to be in place and is not
  kLostDiskKeepsItsId,   // an empty disk comes back as the member it was
  kSnapshotWithoutTail,  // a snapshot leaves out its last piece
  kEnd
};

struct ClusterOptions {
  // What may happen. With `draw` each seed has only some of it: few kinds at a time find more than
  // all at once.
  Troubles troubles = Troubles::all();
  bool draw = true;
  uint64_t managers_max = 5;
  int hosts = 5;
  int services = 8;
  Duration chaos = 90s;
  SimMutant mutant = SimMutant::kNone;
  // Told what happens, in words, with the virtual time; null: nobody.
  std::function<void(const std::string& line)> trace;
};

}  // namespace muster::sim
