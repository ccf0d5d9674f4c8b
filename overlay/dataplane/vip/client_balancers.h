#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/executor.h"
#include "base/log.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "overlay/balancer/slots.h"
#include "overlay/balancer/vip_balancer.h"
#include "overlay/dataplane/told/network_truth.h"
#include "overlay/dataplane/vip/balancer_choice.h"
#include "overlay/dataplane/vip/client_flows.h"
#include "overlay/dataplane/vip/client_namespace.h"

namespace muster::overlay {

// The virtual addresses of all networks this node was told of, in the namespaces of all containers
// it has: a container is a client of every network that one of its addresses is in. What is in a
// namespace goes on working while this process is away and is adopted; until a network is told of,
// what is there of it is left alone.
//
// All services of a container's networks are installed at once: a service is reached by its
// address, too, and netd answers names while this process is away. With nftables
// that costs 8 KiB of kernel memory a virtual address and container with 64 slots
// (Linux 6.18, 6.1); what bounds it is that all services of a network have no more than
// kSlotsOfNetwork slots together (docs/networking.md). With IPVS it is 0.6 KiB for each task and
// half; what bounds it is that an address has few of its tasks in a container until the container
// uses it, which a descriptor tells of (uses()).
//
// Not thread-safe; calls block. Stale connections are cleared in the background.
class ClientBalancers {
 public:
  // `chores`: for what is slow; see ClientFlows.
  // `most`: slots of a virtual address.
  ClientBalancers(Executor& chores, Log log, BalancerChoice choice = {}, size_t most = kSlotsMax);

  // The container in this namespace, whose interfaces have their addresses. Brings it up to date;
  // idempotent.
  Status attach(const std::string& container_id, const std::string& netns);
  // One found after a restart: left as it is, and not even looked at, until its networks are told
  // of.
  Status adopt(const std::string& container_id, const std::string& netns);
  void detach(const std::string& container_id);
  bool has(const std::string& container_id) const { return clients_.contains(container_id); }

  // What a step has changed, after it went into `truth`: in force in every container of the network
  // on return. The first failure is returned, the others are brought up to date all the same;
  // repair() tries again.
  Status apply(const NetworkTruth& truth, const NetworkDifference& difference);
  // The node takes no part in the network any more.
  void forget(const std::string& network_id);
  // Readable when serve_uses() has something to do; valid as long as this is. -1: it never has.
  int uses() const { return uses_.get(); }
  // Containers have used addresses for the first time: those get all of their tasks there.
  void serve_uses();
  // What containers get less of than they should, a sentence each.
  std::vector<std::string> limitations() const;
  // Compares the kernel with what it should be, mends it, and adds a sentence to `said` for each
  // difference: container by container, since a look takes a while, and between them others may
  // have their turn. Services with more tasks than slots: other tasks have theirs.
  std::vector<std::string> begin_repair();  // the containers
  void repair(const std::string& container_id, std::vector<std::string>& said);

 private:
  struct Task {
    std::string service_id;
    v1::EndpointState state = v1::ENDPOINT_ABSENT;
    bool lost = false;  // managers do not see it any more, but it is not gone
  };
  struct Vip {
    std::string service_id;
    std::string name;
    VipSpreadPtr spread;  // while slots_
    VipPoolPtr pool;      // while pools_
    SpreadPolicy policy;
    std::vector<VipBackend> backends;
    std::vector<Ip> draining;
    std::vector<Ip> others;  // that may have flows still
    size_t equal = 0;        // backends, see as_equal_backends()
  };
  struct Network {
    std::string name;
    std::vector<Prefix> subnets;
    uint32_t mtu = 0;
    std::map<std::string, Task> tasks;                     // by id
    std::map<std::string, std::set<std::string>> members;  // tasks by service
    std::map<std::string, std::vector<Ip>> service_vips;   // by service
    std::map<Ip, Vip> vips;
    SlotScale scale;
    bool scaled = false;  // the scale has been chosen, or that of a former process been found
    bool snug = false;    // maps keep no slots that they do not need: all together had too many
    size_t turn = 0;      // where the subset of a service with too many backends begins
  };
  struct Client {
    std::shared_ptr<ClientNamespace> place;
    std::string netns;
    std::vector<Ip> addresses;
    bool behind = false;  // something failed: repair() looks at all of it
    uint64_t serial = 0;  // what uses_ knows it by
  };

  using Changed = std::set<Ip>;  // virtual addresses

  // By what it has, and if that is nothing, by choice.
  Result<std::shared_ptr<ClientNamespace>> open_place(const std::string& container_id,
                                                      const std::string& netns);
  Status make_place(bool ipvs, const std::string& container_id, const std::string& netns,
                    std::shared_ptr<ClientNamespace>& place);
  // From now on there are places of this kind.
  void provide(bool ipvs);
  Result<Client*> open(const std::string& container_id, const std::string& netns);
  void watch_uses(const std::string& container_id, Client& client);
  void unwatch_uses(Client& client);
  // The client's address of that family in the network, if it has one.
  static std::optional<Ip> source(const Client& client, const Network& network, bool v6);
  static bool is_in(const Client& client, const Network& network);

  // Fills in a fresh one, but for services and tasks.
  static Status describe(Network& network, const NetworkTruth& truth);
  // Adds the tasks' services to `services`; returns whether any flow may be stale now.
  static bool note_tasks(Network& network, const NetworkTruth& truth,
                         const std::set<std::string>& ids, std::set<std::string>& services);
  // Addresses of its tasks by what may be led to them.
  struct Members {
    std::vector<VipBackend> ready;
    std::vector<Ip> draining;
    std::vector<Ip> released;
    std::vector<Ip> absent;
  };
  static Members members_of(const Network& network, const NetworkTruth& truth,
                            const std::string& service_id);
  static void forget_service(Network& network, const std::string& service_id, Changed& changed);
  // What is said of its tasks; adds to `due` what is to be spread by it.
  void gather_service(Network& network, const NetworkTruth& truth, const std::string& service_id,
                      Changed& changed, Changed& due);
  // Whether all of its services are to be spread anew.
  bool rescale(Network& network);
  void spread_due(Network& network, Changed due, Changed& changed);
  void spread(const Network& network, const Ip& vip, Vip& entry);
  VipSpreadPtr former_spread(const Network& network, const Ip& vip);
  static std::map<Ip, VipFlowsPtr> flows_of(const Network& network, const NetworkTruth& truth,
                                            const Changed& vips);

  static std::optional<VipWish> wish(const Client& client, const Network& network, const Ip& vip);
  // All that a client should have, and what it should not.
  std::vector<VipWish> all_wishes(const Client& client) const;
  Status bring(const std::string& container_id, Client& client, const std::vector<VipWish>& wishes);
  void mend(const std::string& container_id, Client& client, std::vector<std::string>& said);
  bool crowded(const Vip& vip) const { return slots_ && vip.backends.size() > most_; }
  void turn_subsets();

  ClientFlows flows_;
  Log log_;
  BalancerChoice choice_;
  size_t most_;
  bool slots_ = false;                       // there are, or will be, places that spread over slots
  bool pools_ = false;                       // ... or pools
  std::map<std::string, Network> networks_;  // by id; those that were told of
  std::map<std::string, Client> clients_;    // by container id
  UniqueFd uses_;                            // epoll of what places tell of
  uint64_t last_serial_ = 0;
  std::map<uint64_t, std::string> by_serial_;  // containers
};

}  // namespace muster::overlay
