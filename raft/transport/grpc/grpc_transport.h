#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/impl/codegen/service_type.h>
#include <grpcpp/server_context.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "base/log.h"
#include "base/security/principal.h"
#include "base/time.h"
#include "raft/transport/lane_queue.h"
#include "raft/transport/transport.h"

namespace muster::raft {

struct GrpcTransportOptions {
  std::string cluster_id;
  MemberId self;
  std::string address;  // where the others reach this member

  // Whether a member that is not in the list was removed for good, so that it is told so. Only who
  // certainly has the newest list may say yes: a leader that has applied all of before its term.
  // Called on threads of the transport's. Null: nobody is known to be removed.
  std::function<bool(MemberId)> removed;
  // Whether a node was removed from the cluster, so that its certificate is worth nothing, in the
  // list or not. Any member may say yes that knows it, however old what it knows is. As above.
  std::function<bool(const std::string& node_id)> node_removed;

  LaneQueue::Limits lane;
  Duration redial_first = 50ms;
  Duration redial_max = 1s;
  // How long one attempt to connect may take: at first, and after several in a row that took as
  // long as they might. A host without time for handshakes would never end one that is always given
  // up early, and begin them for ever.
  Duration connect_first = 2s;
  Duration connect_max = 8s;
  Duration goodbye_max = 500ms;  // how long stop() waits for the others to have heard it
  Duration probe_max = 2s;

  size_t snapshot_part_bytes = 512 << 10;
  uint64_t snapshot_bytes_per_s = 64 << 20;  // all of them together; 0: no limit
  size_t snapshots_max = 2;                  // sent at once; others wait
  Duration snapshot_part_max = 10s;          // for one part to be taken, or to arrive
  // For the receiver to have it safely on its disk, after the last part. Applying is not counted.
  Duration snapshot_finish_max = 10min;
};

// A new connection to the member of node `node_id` (empty: not known) at `address`, which may take
// up to `connect_max`; called for every attempt, on the transport's thread, so that new
// certificates are in force with the next connection. The server must be let through only with a
// manager's certificate, which the credentials see to. Channels must not share subchannels
// (security::manager_channel_arguments()).
using ChannelFactory = std::function<std::shared_ptr<grpc::Channel>(
    const std::string& address, const std::string& node_id, Duration connect_max)>;
// Who calls: security::principal_of_tls, in an adapter.
using CallerIdentity = std::function<security::Principal(const grpc::ServerContextBase&)>;

class Inbound;
class Peers;
class SnapshotQueue;
struct TransportCore;

// The transport over gRPC. To each member it keeps two lanes, streams with connections of their
// own: one for what must never wait (heartbeats, votes, their replies), one for entries. Snapshots
// have calls of their own. A lane has one write in flight; what is queued meanwhile goes into the
// next frame. What the others send arrives through the service that make_raft_service() makes.
//
// Threads. gRPC's: they read, decode and call received(), one message of a lane at a time, and
// finish writes. "raft-net": dials, timers, all other events. "raft-snapshots": whatever touches a
// snapshot's reader or writer. "raft-probe": see TcpProbe. No lock is held while events are told,
// but one shared with stop().
class GrpcTransport final : public Transport {
 public:
  // `events` must stay until stop() returned.
  GrpcTransport(GrpcTransportOptions options, ChannelFactory channels, TransportEvents& events,
                Log log);
  ~GrpcTransport() override;  // stops

  void set_members(const Members& members) override;
  void send(Message message) override;
  void flush() override;
  void send_snapshot(Message message, std::unique_ptr<SnapshotReader> body) override;
  void stop() override;

  // `removed` or `node_removed` may say otherwise than before: whoever calls this member is judged
  // again. Any thread, at any time.
  void judge_again();

  // The answering side, for make_raft_service(). Refuses everything after stop().
  std::shared_ptr<Inbound> inbound() const;

 private:
  std::atomic<bool> stopped_ = false;
  std::shared_ptr<TransportCore> core_;
  std::shared_ptr<Peers> peers_;
  std::shared_ptr<Inbound> inbound_;
  std::shared_ptr<SnapshotQueue> snapshots_;
};

// The service of a manager's one server. `current` is asked, on any thread, for the member in
// force; null (this node is no manager now): calls are refused UNAVAILABLE.
std::unique_ptr<grpc::Service> make_raft_service(std::function<std::shared_ptr<Inbound>()> current,
                                                 CallerIdentity caller);

}  // namespace muster::raft
