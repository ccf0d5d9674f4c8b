#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "base/status.h"
#include "overlay/dataplane/host/gateway_pool.h"
#include "overlay/dataplane/host/ruleset.h"
#include "overlay/dataplane/kernel/links.h"
#include "overlay/dataplane/kernel/names.h"
#include "overlay/dataplane/kernel/netlink.h"
#include "overlay/dataplane/kernel/nft.h"

namespace muster::overlay {

// What a container has beside its overlay networks, none of which is in the host's namespace: an
// interface that leads to its own node. It is the container's default route, by NAT, and where
// ports of the host lead to; or, for a container that shall not get out, the latter alone.
//
// The host's end of each is no port of a bridge but routed by itself, 172.18.0.1 with a route to
// 172.18.0.5: so containers cannot reach one another here, whatever they send, and a published port
// that leads from one to another passes the host's rules, also where br_netfilter would make such a
// frame cross a bridge by itself. The bridge "mg<instance>", which has no ports, holds the routes
// of the subnets, for people and for other programs to see that they are taken.
//
// All of it is there while a container needs it. The kernel is the truth: scan() learns from it
// what a former process left; an interface's alias says whose it is and which address was given
// out. Not thread-safe; lives in the host's network namespace.
class Gateway {
 public:
  struct Lease {
    std::string link;  // the host's end
    uint32_t mtu = 0;
    Ip address;  // IPv4
    Ip gateway;
    int length = 32;               // of the subnet that both are in
    std::optional<Ip> address_v6;  // its gateway: gateway_v6
    Ip gateway_v6;
  };
  // Destinations to keep away from: what the host reaches by itself, asked for when a subnet is to
  // be chosen.
  using LocalRanges = std::function<Result<RangeSet>()>;

  // Does not own `rtnl` and `nft`.
  Gateway(const Names& names, NetlinkSocket& rtnl, LibNft& nft, LocalRanges local_ranges, Log log)
      : names_(names),
        rtnl_(rtnl),
        nft_(nft),
        local_ranges_(std::move(local_ranges)),
        log_(std::move(log)),
        pool_(names.instance()) {}

  // Replaces what is known by what the kernel has.
  Status scan();
  // Gives out an address, or finds the one given out before. `link` is the name of the host's end,
  // which the caller makes next; `avoid`: networks that this node or the container takes part in.
  // `v6` is a wish, fulfilled where the host has IPv6. FAILED_PRECONDITION: no range is free.
  Result<Lease> acquire(const std::string& link, bool v6, const std::vector<Prefix>& avoid);
  // Makes the pair, which `veth` describes but for the lease's part of it; or completes one that
  // `exists`.
  Status make(const Lease& lease, VethSpec veth, bool exists, std::string_view container_id);
  // The interface is gone: its address may be given out again. Removes the bridge with the last.
  Status release(const std::string& link);
  bool has(const std::string& link) const { return leases_.contains(link); }
  const Lease* find(const std::string& link) const;
  // Removes the interfaces that `keep` does not name.
  Status sweep(const std::set<std::string>& keep);
  // Puts its rules into a fresh table.
  Status restore_rules();
  // None while no container has a way.
  std::optional<NetworkRules> rules() const;
  // Says which of our subnets a network overlaps: only containers in both are concerned, and those
  // get an address elsewhere. nullptr: none.
  const Prefix* overlap(const Prefix& network) const;
  // Mends what is missing in the kernel and adds a sentence to `said` for each; to `failed` for
  // what it cannot mend.
  void repair(std::vector<std::string>& said, std::vector<std::string>& failed);

 private:
  Status add_subnet(const std::vector<Prefix>& avoid);
  Status make_bridge();
  Status remove_bridge();
  NetworkRules own_rules() const;
  std::vector<Message> addresses(int index, const Lease& lease) const;
  std::string alias(const Lease& lease, std::string_view container_id) const;
  // The lease that an alias tells of, and its subnet; nullopt: not of ours.
  std::optional<std::pair<Lease, Prefix>> read_alias(const Link& link) const;

  const Names& names_;
  NetlinkSocket& rtnl_;
  LibNft& nft_;
  LocalRanges local_ranges_;
  Log log_;
  GatewayPool pool_;
  int bridge_index_ = 0;  // 0: there is none
  uint32_t mtu_ = 1500;
  std::map<std::string, Lease> leases_;  // by link
};

}  // namespace muster::overlay
