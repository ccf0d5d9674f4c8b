#pragma once

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/status.h"
#include "overlay/balancer/balancer.h"
#include "overlay/dataplane/host/flow_sweeper.h"
#include "overlay/dataplane/host/host_ports.h"
#include "overlay/dataplane/node_network.h"
#include "overlay/ipam/ip.h"

namespace muster::overlay {

// The published ports of this node: sockets that hold them, the balancer that leads their traffic,
// the connection table that remembers it. Not thread-safe.
class PublishedPorts {
 public:
  // Owns none of its arguments. Connections are cleared in the background.
  PublishedPorts(Balancer& balancer, FlowSweeper& sweeper, Log log, PortKeeper* keeper = nullptr)
      : balancer_(balancer), sweeper_(sweeper), log_(std::move(log)), held_(keeper) {}

  // The host reaches what the container has at `address` by another one, or by none (empty); until
  // forget_addresses() names that.
  void lead(const std::string& container_id, const std::string& address, const std::string& by) {
    ways_[{container_id, address}] = by;
  }
  // Except for what is in these subnets, which the host reaches as it is. True if that is news.
  bool reach(const std::vector<Prefix>& subnets);
  // See NodeNetwork::set_published_ports.
  Status set(const std::vector<PublishedPort>& ports, std::vector<v1::PortConfig>* conflicts);
  Result<uint32_t> reserve(v1::PortConfig::Protocol protocol) { return held_.pick(protocol); }
  // What ports lead to less of than they should, or do not lead at all though nobody else has them,
  // a sentence each; as of the last set(), which is to be repeated now and then while there are
  // any.
  const std::vector<std::string>& limitations() const { return limits_; }
  // A container is gone: what remembers its addresses is stale. Those by which the host reached it
  // are among them.
  void forget_addresses(const std::vector<std::string>& addresses);

 private:
  bool reached(const std::string& address) const;
  Frontend frontend_of(const PublishedPort& published) const;
  void note_not_held(const v1::PortConfig& port, bool led, const Status& why);
  void note_crowded(const Frontend& frontend);
  void flush(const std::vector<RemovedBackend>& removed);

  Balancer& balancer_;
  FlowSweeper& sweeper_;
  Log log_;
  HostPorts held_;
  std::map<std::pair<std::string, std::string>, std::string> ways_;  // by container and address
  std::vector<Prefix> reached_;
  std::vector<std::string> limits_;
  std::set<FrontendKey> taken_;  // by a process of the host, though in force: it was told
};

}  // namespace muster::overlay
