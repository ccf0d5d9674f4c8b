#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "overlay/dns/netd/event_loop.h"
#include "overlay/dns/netd/namespace_sockets.h"

namespace muster::overlay::dns {

// The resolver in one container's namespace: reads questions over UDP and TCP, hands them on and
// sends the answers. Bounds: `kConnectionsMax` connections, each closed when it says nothing for
// `kIdleMax` or reads too slowly; datagrams that find the socket full are dropped, as by a network.
class ContainerResolver {
 public:
  static constexpr size_t kConnectionsMax = 64;
  static constexpr Duration kIdleMax = 10s;

  using Reply = std::function<void(std::string answer)>;
  // One question; the reply runs once or never, perhaps before the call returns.
  using Handler = std::function<void(std::string_view packet, bool tcp, Reply reply)>;

  ContainerResolver(EventLoop& loop, NamespaceHopper::ResolverSockets sockets, Handler handler);
  ~ContainerResolver();
  ContainerResolver(const ContainerResolver&) = delete;
  ContainerResolver& operator=(const ContainerResolver&) = delete;
  Status start();

  int namespace_fd() const { return sockets_.ns.get(); }
  const NamespaceHopper::ResolverSockets& sockets() const { return sockets_; }
  NamespaceHopper::ResolverSockets& sockets() { return sockets_; }

 private:
  struct Connection;
  void read_datagrams();
  void accept_connections();
  void connection_ready(int fd, uint32_t events);
  // False when the connection is to be closed.
  bool read(Connection& connection);
  bool flush(Connection& connection);
  void reply(int fd, const std::string& answer);
  void close(int fd);
  void rest(Connection& connection);  // starts the idle time anew

  EventLoop& loop_;
  NamespaceHopper::ResolverSockets sockets_;
  Handler handler_;
  std::map<int, std::shared_ptr<Connection>> connections_;
  std::shared_ptr<ContainerResolver*> self_;  // emptied by the destructor; replies hold it
};

}  // namespace muster::overlay::dns
