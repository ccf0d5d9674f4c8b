#pragma once

#include <map>
#include <memory>
#include <string>

#include "base/log.h"
#include "base/rng.h"
#include "base/unique_fd.h"
#include "overlay/dns/forwarder.h"
#include "overlay/dns/name_table.h"
#include "overlay/dns/netd/container_resolver.h"
#include "overlay/dns/netd/control.h"
#include "overlay/dns/netd/event_loop.h"
#include "overlay/dns/netd/handover.h"
#include "overlay/dns/netd/kept_ports.h"
#include "overlay/dns/netd/namespace_sockets.h"
#include "overlay/dns/netd/node_resolvers.h"
#include "overlay/dns/netd/port_control.h"
#include "overlay/dns/netd/records.h"
#include "overlay/dns/netd/relays.h"
#include "overlay/dns/netd/upstream_sockets.h"
#include "overlay/dns/resolver.h"

namespace muster::overlay::dns {

// Of the protocol in netd.proto; a musterd that needs more replaces the process.
inline constexpr uint32_t kNetdLevel = 1;

struct NetdOptions {
  std::string run_dir;  // of one instance; holds the socket and the lock
  std::string resolv_conf = "/etc/resolv.conf";
  std::string build;       // names the program's file
  bool take_over = false;  // from another netd of the instance, if there is one
};

// The process that holds the resolvers of a node's containers, its published ports and the relays
// of some, so that names go on being answered, connections go on, and nobody takes a port while
// musterd is away. One thread; needs root. It ends when musterd says so, on SIGTERM, and by itself
// when it has neither a container nor a relay nor a port nor a musterd for kLonelyMax.
class Netd {
 public:
  static constexpr Duration kLonelyMax = 10s;
  // How often the rules of each container are looked at; a few are every kLookStep.
  static constexpr Duration kLookPeriod = 10s;
  static constexpr Duration kLookStep = 1s;
  // What was mended while no musterd listens is remembered, so often at most.
  static constexpr size_t kMendedMax = 256;

  Netd(NetdOptions options, Rng& rng, Log log);
  ~Netd();

  // Takes the lock and listens; ALREADY_EXISTS when another process serves this instance. May be
  // called before a fork: what follows is to be called in the process that goes on.
  Status open();
  Status run();

 private:
  v1::NetdReply command(const v1::NetdCommand& command);
  v1::NetdReply update(const v1::NetdUpdate& update);
  void remove(const v1::NetdRecord& record);
  void set(const v1::NetdRecord& record);
  void set_container(const v1::NetdContainer& record, v1::NetdAck& ack);
  void set_relay(const v1::NetdRecord& record, v1::NetdAck& ack);
  Status open_container(const v1::NetdContainer& record);
  void remove_container(const std::string& id);
  void look_at_some();
  void tell_mended();
  void question(const std::string& container, std::string_view packet, bool tcp,
                ContainerResolver::Reply reply);
  std::vector<Upstream> servers_of(const v1::NetdContainer& container);
  void arm_forwarder();
  void forwarder_due();
  void check_company();
  Status watch_signals();
  void hand_over(int fd);

  struct Container {
    v1::NetdContainer record;
    NameTable::Networks networks;
    std::unique_ptr<ContainerResolver> resolver;
    std::string told;  // of its rules
  };
  void look_at(const std::string& id, Container& container);

  NetdOptions options_;
  Rng& rng_;
  Log log_;
  UniqueFd lock_;
  UniqueFd signals_;
  EventLoop loop_;
  NamespaceHopper hopper_;
  Records records_;
  NameTable table_;
  Resolver resolver_;
  NodeResolvers node_resolvers_;
  std::unique_ptr<UpstreamSockets> upstream_;
  std::unique_ptr<Forwarder> forwarder_;
  std::map<std::string, Container> containers_;
  Relays relays_;
  KeptPorts kept_ports_;
  std::unique_ptr<PortControl> port_control_;
  std::unique_ptr<Control> control_;
  EventLoop::TimerId forwarder_timer_ = 0;
  TimePoint forwarder_due_;
  EventLoop::TimerId look_timer_ = 0;
  std::string looked_at_;            // the last container
  std::vector<std::string> mended_;  // containers whose rules were, of which musterd was not told
  bool was_lonely_ = false;
  Handover inherited_;        // of the predecessor, until run() has taken it up
  bool handed_over_ = false;  // the sockets are a successor's
};

}  // namespace muster::overlay::dns
