#pragma once

#include <grpcpp/support/status.h>

#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "base/backoff.h"
#include "raft/transport/grpc/transport_core.h"
#include "raft/transport/lane_queue.h"

namespace muster::raft {

// One stream of messages to one member, begun anew whenever it ends. Thread-safe.
//
// While no connection is there, messages wait for the one that is being made; when that fails they
// are lost, and unreachable() is told once. So what a member gets after it comes back is never
// older than one attempt.
class Lane : public std::enable_shared_from_this<Lane> {
 public:
  // `address` may be another than the list's later; the lane keeps its own. `node_id` is what the
  // member's certificate must say, which the channel sees to; empty: not known.
  Lane(std::shared_ptr<TransportCore> core, MemberId peer, std::string node_id, std::string address,
       std::string_view name);

  void start();
  void send(Message message);  // with the next flush(), or when anything else is written
  void flush();
  // No more messages; with `goodbye` what waits goes first and the member is told.
  void end(bool goodbye);
  // After end(): now.
  void cancel();

 private:
  class Stream;

  void dial();  // work strand
  void pump(std::unique_lock<std::mutex> lock);
  void release_if_over(Stream& stream);  // with the lock held
  void on_notice(Stream& stream, const Notice& notice);
  void on_done(const Stream& stream, const grpc::Status& status);
  void complain(const std::string& what);

  const std::shared_ptr<TransportCore> core_;
  const MemberId peer_;
  const std::string node_id_;
  const std::string address_;
  const std::string name_;  // for the log

  std::mutex mutex_;
  LaneQueue queue_;
  bool full_ = false;  // and the owner knows
  bool ending_ = false;
  bool goodbye_ = false;
  std::shared_ptr<Stream> stream_;
  Backoff backoff_;
  Duration patience_;                 // how long the next attempt to connect may take
  std::set<std::string> complaints_;  // in the log since the lane was open last
};

// Whether a stream's end may mean that the process at its other end is gone; what is no such sign:
// an orderly end, a time-out, the other side's word that it takes no more calls.
bool is_sudden(const grpc::Status& status);

}  // namespace muster::raft
