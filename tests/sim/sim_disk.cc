#include "tests/sim/sim_disk.h"

#include <utility>

namespace muster::sim {

namespace store = manager::store;

Status SimDisk::replay(store::Store& into) const {
  if (snapshot_index != 0) {
    MUSTER_TRY(into.load_begin());
    for (const std::string& chunk : snapshot) MUSTER_TRY(into.load_chunk(chunk));
    MUSTER_TRY(into.load_end());
  }
  for (const Entry& entry : entries) MUSTER_TRY(into.apply(entry.index, entry.bytes));
  return ok_status();
}

Status SimDisk::take_snapshot(const store::Store& from) {
  const store::Snapshot state = from.snapshot();
  snapshot.clear();
  MUSTER_TRY(store::Store::save(state, 4096, [&](std::string chunk) {
    snapshot.push_back(std::move(chunk));
    return ok_status();
  }));
  snapshot_index = state.version();
  std::erase_if(entries, [&](const Entry& entry) { return entry.index <= snapshot_index; });
  return ok_status();
}

void SimLog::propose(uint64_t term, std::string entry,
                     UniqueFunction<void(store::ProposalResult)> done) {
  if (term_ == 0 || term != term_) {
    strand_.post([done = std::move(done)]() mutable {
      done({store::ProposalOutcome::kRejected, 0, unavailable("this member does not lead")});
    });
    return;
  }
  if (faults_.reject_one_in != 0 && rng_.below(faults_.reject_one_in) == 0) {
    strand_.after(moment(), [done = std::move(done)]() mutable {
      done({store::ProposalOutcome::kRejected, 0,
            Status(StatusCode::kResourceExhausted, "the disk is full", "disk-full")});
    });
    return;
  }
  const bool unknown = faults_.unknown_one_in != 0 && rng_.below(faults_.unknown_one_in) == 0;
  const bool written = !unknown || rng_.below(2) == 0;
  strand_.after(moment(), [this, unknown, written, entry = std::move(entry),
                           done = std::move(done)]() mutable {
    if (written) disk_.entries.push_back({++disk_.last_index, std::move(entry)});
    strand_.after(moment(),
                  [this, unknown, index = disk_.last_index, done = std::move(done)]() mutable {
                    if (!unknown) return done({store::ProposalOutcome::kCommitted, index, {}});
                    term_ = 0;
                    done({store::ProposalOutcome::kUnknown, 0, internal_error("the disk failed")});
                    lost_();
                  });
  });
}

}  // namespace muster::sim
