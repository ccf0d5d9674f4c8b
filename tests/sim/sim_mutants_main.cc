// Whether the whole-cluster simulator can see: faults of the driver, of the agents' worker and of
// what the simulator stands in for, must each break a rule within a number of seeds. Five of them a
// run, others each day or as MUSTER_ROTATION says; all with --all or MUSTER_FULL; with --only those
// whose names have the word.
#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "agent/worker/mutant.h"
#include "manager/mutant.h"
#include "raft/core/mutant.h"
#include "raft/node/mutant.h"
#include "scheduler/mutant.h"
#include "tests/sim/sim_cluster.h"
#include "tests/sim/sim_seeds.h"

namespace muster::raft {
Mutant active_mutant = Mutant::kNone;
DriverMutant active_driver_mutant = DriverMutant::kNone;
}  // namespace muster::raft
namespace muster::agent {
WorkerMutant active_worker_mutant = WorkerMutant::kNone;
}  // namespace muster::agent
namespace muster::manager {
ManagerMutant active_manager_mutant = ManagerMutant::kNone;
}  // namespace muster::manager
namespace muster::scheduler {
SchedulerMutant active_scheduler_mutant = SchedulerMutant::kNone;
}  // namespace muster::scheduler

namespace {

using muster::agent::WorkerMutant;
using muster::manager::ManagerMutant;
using muster::raft::DriverMutant;
using muster::scheduler::SchedulerMutant;
using muster::sim::SimMutant;

constexpr uint64_t kSeeds = 2'000;
constexpr size_t kEachTime = 5;

struct Fault {
  std::string_view name;
  DriverMutant driver = DriverMutant::kNone;
  SimMutant sim = SimMutant::kNone;
  WorkerMutant worker = WorkerMutant::kNone;
  ManagerMutant manager = ManagerMutant::kNone;
  SchedulerMutant scheduler = SchedulerMutant::kNone;
};

const std::vector<Fault>& faults() {
  static const std::vector<Fault> kFaults = {
      {"the driver answers proposals before they are committed", DriverMutant::kAnswersAtOnce},
      {"the driver takes open proposals for committed when it leads no more",
       DriverMutant::kUnknownIsCommitted},
      {"the driver answers reads without asking a quorum", DriverMutant::kReadsUnconfirmed},
      {"the driver leads before it has applied enough", DriverMutant::kLeadsBeforeApplied},
      {"the driver does not say that it leads no more", DriverMutant::kEndOfLeadershipUntold},
      {"the driver applies what was proposed here twice", DriverMutant::kOwnEntriesAppliedToo},
      {"the driver marks snapshots later than their state", DriverMutant::kSnapshotMarkTooFar},
      {"the driver does not load snapshots that arrive", DriverMutant::kSnapshotNotLoaded},
      {"the driver does not say that it was removed", DriverMutant::kRemovalUntold},
      {"the disk says that it has written before it has", {}, SimMutant::kDiskTellsEarly},
      {"the disk loses what was synced", {}, SimMutant::kDiskLosesSynced},
      {"a restart forgets term and vote", {}, SimMutant::kHardStateForgotten},
      {"an installed snapshot is not kept", {}, SimMutant::kInstallNotKept},
      {"a manager with an empty disk is the member it was", {}, SimMutant::kLostDiskKeepsItsId},
      {"a snapshot has no end", {}, SimMutant::kSnapshotWithoutTail},
      {"a restarted worker takes what runs for gone", {}, {}, WorkerMutant::kForgetsToAdopt},
      {"a worker does not tell how a task ended", {}, {}, WorkerMutant::kEndUntold},
      {"a worker writes down a start too late", {}, {}, WorkerMutant::kStartUnrecorded},
      {"a worker starts each container once more", {}, {}, WorkerMutant::kStartsTwice},
      {"a worker removes what it is to stop", {}, {}, WorkerMutant::kRemovesBeforeStop},
      {"a worker kills without a grace", {}, {}, WorkerMutant::kKillsAtOnce},
      {"a worker stops what names and ports lead to", {}, {}, WorkerMutant::kSignalsTooEarly},
      {"a worker leaves a container's network behind", {}, {}, WorkerMutant::kLeavesNetwork},
      {"a worker does not tell the kernel what changes in a network",
       {},
       {},
       WorkerMutant::kRoutesLost},
      {"a worker never forgets a network", {}, {}, WorkerMutant::kRoutesKept},
      {"a worker stops what other nodes lead to", {}, {}, WorkerMutant::kStopsUnreleased},
      {"a worker passes a task by before another is led to", {}, {}, WorkerMutant::kPassedByAtOnce},
      {"a worker closes ports before another task is led to",
       {},
       {},
       WorkerMutant::kPortsClosedAtOnce},
      {"a worker trusts old records after a power cut", {}, {}, WorkerMutant::kOldRecordsTrusted},
      {"the dispatcher does not say what a node has no more",
       {},
       {},
       {},
       ManagerMutant::kRemovalsUnsaid},
      {"an update ignores its parallelism", {}, {}, {}, ManagerMutant::kParallelismIgnored},
      {"the allocator frees an address too early", {}, {}, {}, ManagerMutant::kAddressFreedEarly},
      {"watchers of the store miss the second change of an entry",
       {},
       {},
       {},
       ManagerMutant::kWatchDropsSecond},
      {"a node that was removed may join again by its key",
       {},
       {},
       {},
       ManagerMutant::kRemovedJoins},
      {"a node that was removed may call", {}, {}, {}, ManagerMutant::kRemovedStands},
      {"a former manager may call as a manager", {}, {}, {}, ManagerMutant::kFormerManagerStands},
      {"a token is good after its rotation", {}, {}, {}, ManagerMutant::kAnyToken},
      {"the rotation of the root waits for nobody", {}, {}, {}, ManagerMutant::kRotationEndsEarly},
      {"tasks are let go that nodes lead to", {}, {}, {}, ManagerMutant::kReleasesUnasked},
      {"a key is sent with that not everybody has", {}, {}, {}, ManagerMutant::kKeysUsedEarly},
      {"the scheduler ignores reservations", {}, {}, {}, {}, SchedulerMutant::kReservationsIgnored},
  };
  return kFaults;
}

// In a process for each seed: a check of the product that ends it has found the fault as well.
bool killed(const Fault& fault) {
  muster::raft::active_driver_mutant = fault.driver;
  muster::agent::active_worker_mutant = fault.worker;
  muster::manager::active_manager_mutant = fault.manager;
  muster::scheduler::active_scheduler_mutant = fault.scheduler;
  muster::sim::ClusterOptions options;
  options.mutant = fault.sim;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    const auto found = muster::sim::in_child([&] {
      const auto outcome = muster::sim::run_cluster(seed, options);
      return outcome ? std::string() : std::string(outcome.error().message());
    });
    if (!found) continue;
    fmt::print("{}: seed {}: {}\n", fault.name, seed, found->substr(0, found->find('\n')));
    std::fflush(stdout);
    return true;
  }
  fmt::print("{}: LIVES\n", fault.name);
  std::fflush(stdout);
  return false;
}

std::vector<Fault> of_this_run(bool all, std::string_view only) {
  std::vector<Fault> out;
  if (!only.empty()) {
    std::copy_if(faults().begin(), faults().end(), std::back_inserter(out),
                 [&](const Fault& f) { return f.name.find(only) != std::string_view::npos; });
    return out;
  }
  if (all) return faults();
  constexpr uint64_t kDaySeconds = 86'400;
  const char* said = std::getenv("MUSTER_ROTATION");
  const uint64_t rotation = said != nullptr
                                ? std::hash<std::string_view>()(said)
                                : static_cast<uint64_t>(std::time(nullptr)) / kDaySeconds;
  const size_t count = faults().size();
  const size_t first = rotation % count;
  for (size_t i = 0; i < kEachTime; ++i) out.push_back(faults()[(first + i * 3) % count]);
  return out;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string_view> words(argv + 1, argv + argc);
  const bool full = std::getenv("MUSTER_FULL") != nullptr;
  const bool only = words.size() == 2 && words[0] == "--only";
  if (!words.empty() && !only && words != std::vector<std::string_view>{"--all"}) {
    fmt::print(stderr, "usage: muster-sim-mutants [--all | --only WORD]\n");
    return 2;
  }
  const std::vector<Fault> chosen =
      of_this_run(full || !words.empty(), only ? words[1] : std::string_view());
  const auto found = static_cast<size_t>(std::count_if(chosen.begin(), chosen.end(), killed));
  fmt::print("{} of {} faults found, of {} there are\n", found, chosen.size(), faults().size());
  return found == chosen.size() && !chosen.empty() ? 0 : 1;
}
