#pragma once

#include <functional>
#include <list>
#include <map>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/status.h"
#include "base/time.h"
#include "base/unique_fd.h"
#include "overlay/dns/netd/event_loop.h"
#include "overlay/dns/netd/proxy_header.h"

namespace muster::overlay::dns {

// Datagrams that pass through this process, from those who send to a relay's socket at ::1. Each
// client's address is a flow with a socket of its own to the backend, by which answers come back to
// the same client from the address that it called. Nobody is told of what is lost, as with any
// datagram: what a socket does not take now is dropped.
//
// Bounds: kFlowsMax flows of all sockets together, beyond which the one that was idle longest makes
// room; a flow ends after kIdleMax without a datagram either way, which is what the kernel's
// connection tracking gives a flow that has been answered (nf_conntrack_udp_timeout_stream). On the
// loop's thread.
class DatagramFlows {
 public:
  static constexpr size_t kFlowsMax = 4096;
  static constexpr Duration kIdleMax = 120s;

  // Where a new client is led, last first; nothing: its datagram is dropped.
  using Choose = std::function<std::vector<SocketAddress>(const SocketAddress& client)>;

  DatagramFlows(EventLoop& loop, Log log, Duration idle_max = kIdleMax);
  ~DatagramFlows();
  DatagramFlows(const DatagramFlows&) = delete;
  DatagramFlows& operator=(const DatagramFlows&) = delete;

  // Leads some of what has come to the socket `at`, which stays the caller's until close().
  void serve(int at, const Choose& choose);
  // Flows to anybody else end; their clients' next datagrams are new ones.
  void keep_only(int at, const std::vector<SocketAddress>& backends);
  // Leads what has come already, and ends all flows of the socket.
  void close(int at, const Choose& choose);
  size_t size() const { return flows_.size(); }

  // For a successor: a flow's client and its socket, which is connected to its backend.
  struct Handed {
    SocketAddress client;
    int backend;
  };
  std::vector<Handed> flows_of(int at) const;
  void restore(int at, const SocketAddress& client, UniqueFd backend);
  // Ends everything without a further word; another process has it.
  void abandon();

 private:
  using Key = std::pair<int, SocketAddress>;
  struct Flow {
    Key key;
    UniqueFd backend;
    SocketAddress to;
    TimePoint moved_at;
  };
  using Flows = std::list<Flow>;  // idle longest first

  // False when nothing more is to be had now.
  bool lead_one(int at, const Choose& choose);
  Flow* begin(const Key& key, const std::vector<SocketAddress>& backends);
  Flow* add(const Key& key, UniqueFd backend, const SocketAddress& to);
  void answered(const Key& key);
  void moved(Flows::iterator flow);
  void end(Flows::iterator flow);
  void arm();
  void sweep();

  EventLoop& loop_;
  Log log_;
  const Duration idle_max_;
  Flows flows_;
  std::map<Key, Flows::iterator> by_client_;
  std::vector<char> buffer_;  // of one datagram, the largest that there may be
  EventLoop::TimerId sweep_ = 0;
  bool full_said_ = false;
};

}  // namespace muster::overlay::dns
