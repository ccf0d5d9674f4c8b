#pragma once

#include <functional>
#include <string>

#include "base/log.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "overlay/dns/netd/event_loop.h"

namespace muster::overlay::dns {

// A Unix socket that root alone is heard at; others are turned away. On the loop's thread.
class RootListener {
 public:
  RootListener(EventLoop& loop, Log log) : loop_(loop), log_(std::move(log)) {}
  ~RootListener();
  RootListener(const RootListener&) = delete;
  RootListener& operator=(const RootListener&) = delete;

  // Of the type (SOCK_STREAM, SOCK_SEQPACKET); replaces one that a former process left at the path.
  // Whoever connects waits until start().
  Status listen(const std::string& path, int type);
  // `accepted`: each connection, non-blocking. While no descriptor is left for another one, it is
  // tried again now and then.
  Status start(std::function<void(UniqueFd)> accepted);
  bool paused() const { return pause_ != 0; }

 private:
  void accept_all();
  void pause(int error);

  EventLoop& loop_;
  Log log_;
  UniqueFd socket_;
  std::function<void(UniqueFd)> accepted_;
  EventLoop::TimerId pause_ = 0;
  bool pause_said_ = false;
};

}  // namespace muster::overlay::dns
