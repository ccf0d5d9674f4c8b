#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "base/crc32c.h"
#include "raft/transport/transport.h"
#include "raft/transport/wire.h"

namespace muster::raft {

// The parts of one snapshot on their way into its writer. Destroyed before it was whole, it takes
// the writer with it, and with that what was written.
class IncomingSnapshot {
 public:
  explicit IncomingSnapshot(std::unique_ptr<SnapshotWriter> writer) : writer_(std::move(writer)) {}

  // True: this was the last part, and the snapshot is in place. A part that was there before is
  // passed over; DATA_LOSS when one is missing or damaged. After an error nothing more is taken.
  Result<bool> take(const SnapshotPart& part) {
    if (writer_ == nullptr) return fail(data_loss("a part after the end of a snapshot"));
    Result<bool> whole = store(part);
    if (!whole || *whole) writer_.reset();
    return whole;
  }
  uint64_t bytes() const { return received_; }

 private:
  Result<bool> store(const SnapshotPart& part) {
    if (crc32c(part.data) != part.crc) {
      return fail(data_loss("part at {} of a snapshot is damaged", part.offset));
    }
    if (part.offset > received_) {
      return fail(data_loss("a snapshot goes on at {} after {}", part.offset, received_));
    }
    if (part.offset < received_) return false;
    if (!part.data.empty()) MUSTER_TRY(writer_->write(part.data));
    received_ += part.data.size();
    if (part.last) MUSTER_TRY(writer_->finish());
    return part.last;
  }

  std::unique_ptr<SnapshotWriter> writer_;
  uint64_t received_ = 0;
};

}  // namespace muster::raft
