#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/log.h"
#include "muster/v1/netd.pb.h"
#include "overlay/dns/netd/control_socket.h"
#include "overlay/dns/netd/event_loop.h"
#include "overlay/dns/netd/frames.h"

namespace muster::overlay::dns {

// The socket by which musterd tells us what it wants. Only root is heard.
class Control {
 public:
  using Handler = std::function<v1::NetdReply(const v1::NetdCommand&)>;

  // Gives everything away over the descriptor, which is closed afterwards.
  using HandOver = std::function<void(int fd)>;

  Control(EventLoop& loop, v1::NetdHello hello, Handler handler, HandOver hand_over, Log log);
  ~Control();
  Control(const Control&) = delete;
  Control& operator=(const Control&) = delete;

  // Replaces a socket that a former process left.
  Status listen(const std::string& path);
  Status start();
  size_t connections() const { return connections_.size(); }
  // Says something unasked to whoever has told of containers before, but not who is behind with
  // hearing. False: nobody is there.
  bool tell(const v1::NetdReply& news);

 private:
  struct Connection {
    UniqueFd fd;
    FrameReader in;
    std::string out;
    bool told = false;  // of containers, by a musterd
  };
  void accepted(UniqueFd fd);
  void ready(int fd, uint32_t events);
  bool read(Connection& connection);
  bool flush(Connection& connection);
  void close(int fd);

  EventLoop& loop_;
  v1::NetdHello hello_;
  Handler handler_;
  HandOver hand_over_;
  Log log_;
  RootListener listener_;
  std::map<int, std::shared_ptr<Connection>> connections_;
};

}  // namespace muster::overlay::dns
