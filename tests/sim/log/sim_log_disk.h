#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "base/sim_executor.h"
#include "raft/node/disk.h"
#include "tests/sim/raft/raft_world.h"
#include "tests/sim/sim_options.h"

namespace muster::sim {

// What survives a process: the log, and snapshots that are complete.
struct LogImage {
  RaftImage log;
  std::map<std::pair<raft::Index, raft::Term>, std::vector<std::string>> snapshots;

  // With what is kept before the snapshot.
  raft::Restored restored() const;
};

// How a disk behaves; may be changed at any time.
struct DiskWeather {
  Duration write_min = 100us;
  Duration write_max = 2ms;
  bool stuck = false;  // what is under way does not end before it is false again
  bool full = false;   // no proposals; those that were accepted already wait
  bool fails = false;  // the next write does
};

// A disk in virtual time: one write at a time, everything that waits is the next one.
class SimLogDisk final : public raft::Disk {
 public:
  SimLogDisk(SimWorld& world, Rng& rng, LogImage& image, const DiskWeather& weather)
      : strand_(world), rng_(rng), image_(image), weather_(weather) {}

  void start(raft::DiskEvents& events) override;
  bool full() override { return weather_.full; }
  void write(raft::Write write) override;
  void flush() override {}
  void take_snapshot(raft::SnapshotMark mark, raft::Index keep_from, raft::SnapshotProducer produce,
                     UniqueFunction<void(Status)> done) override;
  Result<std::unique_ptr<raft::SnapshotSource>> open_snapshot(raft::Index index,
                                                              raft::Term term) override;
  Result<std::unique_ptr<raft::SnapshotSink>> receive_snapshot(
      const raft::SnapshotMark& mark) override;
  void stop() override;

  // Of a process that is killed: the write under way was done or not, by chance; nothing comes
  // after.
  void kill();
  // Called after each write, with what is durable then.
  std::function<void(const LogImage&)> on_durable;
  // What is wrong with it on purpose.
  SimMutant mutant = SimMutant::kNone;

 private:
  struct Step {
    raft::Write write;
    // Of a snapshot taken here, in place of `write`.
    std::optional<raft::SnapshotMark> snapshot;
    raft::Index keep_from = 0;
    UniqueFunction<void(Status)> done;
  };
  void begin();
  void tell_early();
  void lose_synced();
  void finish();
  void tell_room();
  void look_after();
  void put(Step& step);
  Status set_snapshot(const raft::SnapshotMark& mark, raft::Index keep_from);
  bool waits_for_room(const Step& step) const;
  void forget_other_snapshots();
  Duration moment();

  SimExecutor strand_;
  Rng& rng_;
  LogImage& image_;
  const DiskWeather& weather_;
  raft::DiskEvents* events_ = nullptr;
  std::deque<Step> queue_;
  std::deque<Step> under_way_;
  bool busy_ = false;
  bool told_full_ = false;
  bool ended_ = false;
};

}  // namespace muster::sim
