#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/status.h"
#include "base/time.h"
#include "base/unique_fd.h"
#include "muster/v1/netd.pb.h"
#include "overlay/dns/netd/event_loop.h"
#include "overlay/dns/netd/relay_datagrams.h"
#include "overlay/dns/netd/relay_flow.h"
#include "overlay/dns/netd/relay_sockets.h"

namespace muster::overlay::dns {

// What a relay hands on to a successor: a listener, or a connection. Others hand on likewise.
struct HandedRelay {
  std::string text;              // what it is; not longer than a handover message
  std::vector<UniqueFd> owned;   // of one that was received
  std::vector<int> descriptors;  // of one that is to be sent; still the sender's
};
bool is_listener(const HandedRelay& handed);

// Connections to published ports that pass through this process: from ::1, and those that get a
// header of the PROXY protocol. Each is led to a backend, in turn by weight or by the client's
// address, the next one if it does not answer; if none does it is reset. Then bytes go both ways
// until both ends have been passed on. Neither a change of backends nor the end of a relay touches
// connections that run. Datagrams pass by their own rules (relay_datagrams.h).
//
// Sockets of encrypted networks are here like listeners, and handed on like them, but nobody ever
// looks at them: what comes to them is the kernel's.
//
// Bounds: kConnectionsMax connections, beyond which new ones are reset; kConnectMax for a backend
// to answer, of which kBackendsTried are tried; a connection of which one side has ended ends when
// nothing moves for kHalfClosedMax. Peers that are gone are noticed by keep-alives within two
// minutes. On the loop's thread.
class Relays {
 public:
  static constexpr size_t kConnectionsMax = 16384;
  static constexpr size_t kBackendsTried = 4;
  static constexpr Duration kConnectMax = 3s;
  static constexpr Duration kHalfClosedMax = 300s;
  static constexpr Duration kRetryAfter = 1s;

  Relays(EventLoop& loop, Log log);
  ~Relays();
  Relays(const Relays&) = delete;
  Relays& operator=(const Relays&) = delete;

  // Listens wherever the record says and nowhere else. On failure it listens where it can; the rest
  // is tried again every kRetryAfter.
  Status set(const v1::NetdRelay& relay);
  void remove(const std::string& id);
  bool empty() const { return relays_.empty() && connections_.empty(); }
  size_t flows() const { return flows_.size(); }  // of datagrams
  size_t connections() const { return connections_.size(); }

  // Everything, for a successor; goes on to be used here until the process ends.
  std::vector<HandedRelay> hand_over() const;
  // Before the first set(): what a predecessor handed over. Listeners wait for their relay.
  void inherit(std::vector<HandedRelay> handed);
  // What was inherited and is wanted by no relay is closed.
  void settle() { inherited_.clear(); }
  // Ends everything without a further word; another process has it.
  void abandon();

 private:
  struct Listener {
    UniqueFd fd;
    bool paused = false;  // no descriptors were left
  };
  struct Relay {
    v1::NetdRelay record;
    std::map<std::string, Listener> listeners;  // by where; without a socket: not yet
    std::vector<SocketAddress> backends;
    // As of ports that the kernel leads (overlay/balancer/slots.h): what each slot leads to, and
    // which of the backends that is.
    std::vector<std::string> slots;
    std::vector<size_t> slot_backends;
    size_t next = 0;
    std::string said;  // of a failure, in the log
  };
  struct Connection;
  using Connections = std::list<std::shared_ptr<Connection>>;

  static void spread(Relay& relay);
  static std::vector<SocketAddress> candidates(Relay& relay, const SocketAddress& client);
  Status open(Relay& relay);
  Status open(Relay& relay, const std::string& where, Listener& listener);
  void retry();
  Relay* find(const std::string& id, const std::string& where, Listener*& listener);
  void accept_from(const std::string& id, const std::string& where);
  void datagrams_from(const std::string& id, const std::string& where);
  static DatagramFlows::Choose chooser(Relay& relay);
  void restore_flow(std::string_view text, UniqueFd backend);
  // Gives it up. Those that have come already are served.
  void close(Relay& relay, Listener& listener);
  // False when nothing more is to be had now.
  bool accept_one(Relay& relay, Listener& listener);
  void pause(const std::string& id, const std::string& where);
  void begin(Relay& relay, UniqueFd client);
  void add(const std::shared_ptr<Connection>& connection);
  void try_backend(const std::shared_ptr<Connection>& connection);
  void connected(const std::shared_ptr<Connection>& connection);
  void watch_both(const std::shared_ptr<Connection>& connection);
  void pump(const std::shared_ptr<Connection>& connection);
  bool send_header(Connection& connection);
  void end(const std::shared_ptr<Connection>& connection, bool broken);
  void sweep();

  EventLoop& loop_;
  Log log_;
  PipePool pipes_;
  DatagramFlows flows_;
  std::map<std::string, std::unique_ptr<Relay>> relays_;  // by id
  Connections connections_;
  std::map<std::string, UniqueFd> inherited_;  // listeners, by relay and place
  EventLoop::TimerId retry_ = 0;
  EventLoop::TimerId sweep_ = 0;
  bool full_said_ = false;
  std::shared_ptr<Relays*> self_;  // emptied by the destructor; timers hold it
};

}  // namespace muster::overlay::dns
