#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "raft/transport/grpc/transport_core.h"

namespace muster::raft {

class Lane;

// The lanes to the others: to all that are listed, and to strangers that this member answers, for
// as long as they call it. Thread-safe.
class Peers {
 public:
  explicit Peers(std::shared_ptr<TransportCore> core) : core_(std::move(core)) {}

  struct Replaced {
    std::shared_ptr<const Members> former;
    std::vector<MemberId> gone;
  };
  // The list is another now, the core's, too. Nothing after stop().
  std::optional<Replaced> replace(const Members& members);
  void send(Message message);
  void flush();
  // A stranger has ended its last call.
  void forget(MemberId id);
  // Everybody is told that this process ends; cancel() for those who did not hear it.
  void stop();
  void cancel();

 private:
  struct Peer;
  // With the lock held.
  std::shared_ptr<Peer> peer(MemberId id);
  std::vector<std::shared_ptr<Peer>> all();

  const std::shared_ptr<TransportCore> core_;
  std::mutex mutex_;
  bool stopped_ = false;
  std::map<MemberId, std::shared_ptr<Peer>> peers_;
  std::vector<std::shared_ptr<Lane>> unflushed_;
};

}  // namespace muster::raft
