#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "base/status.h"
#include "muster/v1/objects.pb.h"
#include "overlay/dataplane/host/ruleset.h"
#include "overlay/dataplane/kernel/names.h"
#include "overlay/dataplane/kernel/netlink.h"
#include "overlay/dataplane/kernel/nft.h"

namespace muster::overlay {

// The bridge of each network that containers of this node are in, with its gateway addresses and
// its rules. A bridge is there as long as it has ports. The kernel is the truth: scan() learns from
// it what a former process left. Not thread-safe; lives in the host's network namespace.
class Bridges {
 public:
  struct Bridge {
    int index = 0;
    std::string network_id;
    NetworkRules rules;
    std::set<std::string> ports;  // names of the host's ends
    // It has got a subnet, or may have, to which containers that were in it may lack a route.
    bool grown = false;
  };

  // Does not own `rtnl` and `nft`.
  Bridges(const Names& names, NetlinkSocket& rtnl, LibNft& nft, Log log)
      : names_(names), rtnl_(rtnl), nft_(nft), log_(std::move(log)) {}

  // Replaces what is known by what the kernel has.
  Status scan();
  // Makes the network's bridge and rules where they are missing and notes that `port` will be in
  // it, so that it stays. One that is there gets the subnets that the network has got since.
  // Returns the bridge's index.
  Result<int> acquire(const v1::Network& network, const std::string& port);
  // The port is gone; removes bridges that have none left.
  Status release(const std::string& port);
  // Whether the network's bridge has grown since this was asked last.
  bool take_grown(const std::string& network_id);
  // Removes bridges without ports, and the ports that `keep` does not name.
  Status sweep(const std::set<std::string>& keep);
  // Puts the rules of all networks into a fresh table.
  Status restore_rules();
  std::vector<NetworkRules> rules() const;
  // Whether the host still forwards; a sentence in `said` where it did not.
  void repair(std::vector<std::string>& said, std::vector<std::string>& failed) const;

  const std::map<std::string, Bridge>& all() const { return bridges_; }
  bool has_port(const std::string& port) const;

 private:
  Status create(const v1::Network& network, const std::string& name);
  Status grow(const v1::Network& network, Bridge& bridge);
  Status remove(const std::string& name);

  const Names& names_;
  NetlinkSocket& rtnl_;
  LibNft& nft_;
  Log log_;
  std::map<std::string, Bridge> bridges_;  // by link name
};

// The MTU of a network's interfaces: driver option com.docker.network.driver.mtu, else what the
// managers worked out, else 1500, less 50 for VXLAN's headers on an overlay. INVALID_ARGUMENT as
// wanted_mtu() (overlay/ipam/mtu.h).
Result<uint32_t> network_mtu(const v1::Network& network);

}  // namespace muster::overlay
