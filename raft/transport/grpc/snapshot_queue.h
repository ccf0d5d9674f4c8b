#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string>

#include "raft/transport/grpc/transport_core.h"

namespace muster::raft {

// Snapshots on their way out: at most so many at once, one for each member, all of them together
// below a rate. Everything on the work strand, but for submit().
class SnapshotQueue : public std::enable_shared_from_this<SnapshotQueue> {
 public:
  explicit SnapshotQueue(std::shared_ptr<TransportCore> core);

  // Any thread.
  void submit(Message message, std::unique_ptr<SnapshotReader> body);
  // Stops all, without a word of any.
  void abandon_all();
  // Stops what goes to a member that is none any more; it failed.
  void abandon(MemberId to);

 private:
  class Sender;
  struct Job {
    Message message;
    std::unique_ptr<SnapshotReader> body;
  };

  void add(Job job);
  void begin_next();
  void ended(MemberId to, const Sender* sender, const Status& status);

  const std::shared_ptr<TransportCore> core_;
  Throttle throttle_;
  bool stopped_ = false;
  std::deque<Job> waiting_;
  std::map<MemberId, std::shared_ptr<Sender>> active_;
};

}  // namespace muster::raft
