#pragma once

#include <functional>
#include <string_view>

#include "base/status.h"
#include "base/unique_function.h"
#include "raft/core/types.h"

namespace muster::raft {

// A snapshot's chunks on their way to the disk, in order.
using ChunkSink = std::function<Status(std::string_view chunk)>;
// Hands a captured state to the sink; runs once, on the disk's thread for snapshots.
using SnapshotProducer = UniqueFunction<Status(const ChunkSink& sink)>;

// What a log is about, as its driver sees it. Called on the user's strand, in the order of the log;
// must not destroy the driver from inside.
class StateMachine {
 public:
  virtual ~StateMachine() = default;

  // A committed entry that was not proposed here, or whose proposal was answered kUnknown. Indexes
  // grow but have gaps: entries of the log's own take some. What was proposed here and answered
  // kCommitted does not come here. Not OK: this member has to stop (Node::Options::on_fatal).
  virtual Status apply(Index index, std::string_view payload) = 0;

  // The whole state of another time takes the place of this one. Not OK: as for apply().
  virtual Status restore_begin() = 0;
  virtual Status restore_chunk(std::string_view chunk) = 0;
  virtual Status restore_end() = 0;

  // The state of now. Must be quick: the work belongs into what it returns.
  virtual SnapshotProducer capture() = 0;

  // This member leads `term`, and the state has everything that was committed before: proposals are
  // taken from now on. Never twice without end_leading() between.
  virtual void lead(Term term) = 0;
  // Called after the proposals in flight were answered kUnknown, and before anything of another
  // leader is applied.
  virtual void end_leading() = 0;

  // Something of Node::view() changed that its users act upon: members, leader, who is reachable,
  // who has caught up.
  virtual void group_changed() {}
  // This member was taken out of the group, for good: its node is no manager any more.
  virtual void removed() {}
};

}  // namespace muster::raft
