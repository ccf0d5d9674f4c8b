#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "overlay/dns/forwarder.h"
#include "overlay/dns/netd/event_loop.h"
#include "overlay/dns/netd/namespace_sockets.h"

namespace muster::overlay::dns {

// A forwarder's exchanges over real sockets, one socket each: its random source port is half of
// what a forged answer has to guess. On the loop's thread.
class UpstreamSockets final : public UpstreamPort {
 public:
  struct Events {
    std::function<void(uint64_t exchange, std::string_view packet)> received;
    std::function<void(uint64_t exchange)> failed;
  };
  // `namespace_of` gives the descriptor of a container's namespace, -1 when it is gone.
  UpstreamSockets(EventLoop& loop, const NamespaceHopper& hopper,
                  std::function<int(const std::string& container)> namespace_of)
      : loop_(loop), hopper_(hopper), namespace_of_(std::move(namespace_of)) {}
  ~UpstreamSockets() override;
  void set_events(Events events) { events_ = std::move(events); }

  void send(uint64_t exchange, const std::string& container, const Upstream& server, bool tcp,
            const std::string& packet) override;
  void close(uint64_t exchange) override;

 private:
  struct Exchange {
    UniqueFd fd;
    bool tcp = false;
    std::string out;  // TCP: with its length in front
    std::string in;
  };
  Status start(uint64_t exchange, const std::string& container, const Upstream& server, bool tcp,
               const std::string& packet);
  void ready(uint64_t exchange, uint32_t events);
  bool flush(Exchange& exchange);  // false on an error
  void read_datagrams(uint64_t id, Exchange& exchange);
  void read_stream(uint64_t id, Exchange& exchange);

  EventLoop& loop_;
  const NamespaceHopper& hopper_;
  std::function<int(const std::string&)> namespace_of_;
  Events events_;
  std::map<uint64_t, std::shared_ptr<Exchange>> exchanges_;
};

}  // namespace muster::overlay::dns
