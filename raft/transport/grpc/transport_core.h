#pragma once

#include <grpcpp/support/byte_buffer.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <utility>

#include "base/thread_executor.h"
#include "raft/transport/grpc/grpc_transport.h"
#include "raft/transport/peer_watch.h"
#include "raft/transport/tcp_probe.h"
#include "raft/transport/throttle.h"
#include "raft/transport/wire.h"

namespace muster::raft {

// Tells events, until it is closed; close() waits for those that are being told.
class EventGate {
 public:
  explicit EventGate(TransportEvents& events) : events_(&events) {}

  // False: closed.
  template <class F>
  bool tell(F&& f) {
    std::shared_lock lock(mutex_);
    if (events_ == nullptr) return false;
    f(*events_);
    return true;
  }
  void close() {
    std::unique_lock lock(mutex_);
    events_ = nullptr;
  }

 private:
  std::shared_mutex mutex_;
  TransportEvents* events_;
};

// Streams that gRPC has not let go of yet, for stop() to wait for.
class StreamCount {
 public:
  void enter() {
    std::lock_guard lock(mutex_);
    ++count_;
  }
  void leave() {
    std::lock_guard lock(mutex_);
    if (--count_ == 0) none_.notify_all();
  }
  bool wait_for_none(Duration limit) {
    std::unique_lock lock(mutex_);
    return none_.wait_for(lock, limit, [this] { return count_ == 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable none_;
  size_t count_ = 0;
};

class Inbound;

// What the parts of one transport share. Thread-safe. Streams hold it for as long as gRPC holds
// them, which may be longer than the transport lives.
struct TransportCore : std::enable_shared_from_this<TransportCore> {
  TransportCore(GrpcTransportOptions the_options, ChannelFactory the_channels,
                TransportEvents& events, Log the_log);

  Hello hello(MemberId to) const;
  // Empty: not known. The list's, else what a stranger that calls this member says of itself.
  std::string address_of(MemberId id) const;
  std::string node_of(MemberId id) const;
  bool knows(MemberId id) const;  // it is listed, or calls this member
  std::shared_ptr<const Members> members() const;
  // Returns the former list.
  std::shared_ptr<const Members> replace_members(const Members& members);

  // Each goes through the work strand.
  void unreachable(MemberId peer);
  void established(MemberId peer);
  void goodbye(MemberId peer);
  // A stream in use ended suddenly; `address` is where the peer was, should nobody else know.
  void lost(MemberId peer, std::string address);
  void retire(MemberId peer);  // a stranger's last stream ended
  void removed(MemberId by);

  const GrpcTransportOptions options;
  const ChannelFactory channels;
  const Log log;
  EventGate gate;
  StreamCount streams;
  ThreadExecutor work{"raft-net"};
  ThreadExecutor disk{"raft-snapshots"};
  TcpProbe probe;
  PeerWatch watch;                 // work strand
  std::weak_ptr<Inbound> inbound;  // set before there is anything

 private:
  void ask_for(MemberId peer, const std::string& address);
  void probed(MemberId peer, const std::string& address, ProbeResult result);

  mutable std::mutex mutex_;
  std::shared_ptr<const Members> members_;  // never null
};

// The pieces as gRPC sends them, without copying them.
grpc::ByteBuffer to_buffer(Pieces pieces);

}  // namespace muster::raft
