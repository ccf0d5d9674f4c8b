#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>

#include "base/log.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "overlay/dns/netd/control_socket.h"
#include "overlay/dns/netd/event_loop.h"
#include "overlay/dns/netd/kept_ports.h"

namespace muster::overlay::dns {

// The socket by which musterd gives us the sockets that hold its ports, and gets them back. Only
// root is heard. On the loop's thread. A connection whose peer does not read its answers is not
// heard further until it does.
class PortControl {
 public:
  PortControl(EventLoop& loop, KeptPorts& kept, Log log);
  ~PortControl();
  PortControl(const PortControl&) = delete;
  PortControl& operator=(const PortControl&) = delete;

  // Replaces a socket that a former process left. Without start() nobody is answered yet.
  Status listen(const std::string& path);
  Status start();

 private:
  struct Connection {
    UniqueFd fd;
    std::deque<KeptPorts::Answer> out;
  };
  void accepted(UniqueFd fd);
  void ready(int fd);
  bool read(Connection& connection);
  bool flush(Connection& connection);
  void close(int fd);

  EventLoop& loop_;
  KeptPorts& kept_;
  Log log_;
  RootListener listener_;
  std::map<int, std::shared_ptr<Connection>> connections_;
};

}  // namespace muster::overlay::dns
