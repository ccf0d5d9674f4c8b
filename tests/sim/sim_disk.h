#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/executor.h"
#include "base/rng.h"
#include "manager/store/store.h"

namespace muster::sim {

// What survives a manager: the entries its log has synced, and the last snapshot of the store.
struct SimDisk {
  struct Entry {
    uint64_t index = 0;
    std::string bytes;
  };
  std::vector<Entry> entries;         // after the snapshot
  std::vector<std::string> snapshot;  // chunks
  uint64_t snapshot_index = 0;
  uint64_t last_index = 0;
  uint64_t term = 0;

  // Puts everything into a fresh store.
  Status replay(manager::store::Store& store) const;
  // Writes a snapshot of the store and drops the log up to it.
  Status take_snapshot(const manager::store::Store& store);
};

// One manager's log over a SimDisk: entries take a random moment to be synced and another to be
// answered; a manager killed in between has written them without knowing. With faults the disk is
// full at times (REJECTED), and seldom the log ends with an UNKNOWN outcome.
class SimLog final : public manager::store::Proposer {
 public:
  struct Faults {
    uint64_t reject_one_in = 0;  // 0 = never
    uint64_t unknown_one_in = 0;
  };

  // `lost` is called when leadership was lost; the manager must be ended soon, from outside.
  SimLog(Executor& strand, Rng& rng, SimDisk& disk, const Faults& faults,
         std::function<void()> lost)
      : strand_(strand),
        rng_(rng),
        disk_(disk),
        faults_(faults),
        lost_(std::move(lost)),
        term_(++disk.term) {}

  void propose(uint64_t term, std::string entry,
               UniqueFunction<void(manager::store::ProposalResult)> done) override;
  uint64_t leading_term() const override { return term_; }

 private:
  Duration moment() { return Duration(1us) * static_cast<int64_t>(rng_.below(2'000)); }

  Executor& strand_;
  Rng& rng_;
  SimDisk& disk_;
  const Faults& faults_;
  std::function<void()> lost_;
  uint64_t term_;
};

}  // namespace muster::sim
