#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/unique_fd.h"
#include "overlay/dataplane/kernel/names.h"
#include "overlay/dataplane/kernel/netlink.h"
#include "overlay/dataplane/kernel/nft.h"
#include "overlay/dataplane/segment/segments.h"
#include "overlay/ipam/ip.h"

namespace muster::overlay {

// The node's own interface in the ingress network, by which connections to published ports leave
// the host for their tasks: "mi<instance>" in the host's namespace, whose other end, of the same
// name, is a port of the network's bridge. With the host's rules for what passes it
// (mesh_ruleset.h). Not thread-safe; calls come from a thread in the host's namespace.
class MeshLink {
 public:
  struct Spec {
    std::vector<Cidr> addresses;
    std::string mac;
    std::vector<Prefix> subnets;  // of the network
  };

  // Does not own its arguments.
  MeshLink(const Names& names, NetlinkSocket& host_rtnl, LibNft& host_nft)
      : names_(names), host_(host_rtnl), nft_(host_nft), table_("mesh_" + names.table()) {}

  // The subnets that the host reaches by it; empty when there is none.
  Result<std::vector<Prefix>> subnets();
  // Makes it what it should be. `said` (may be null) gets a sentence for what was different.
  Status keep(const Spec& spec, const Segments::Place& place, std::vector<std::string>* said);
  // Removes it with its rules; nothing there is fine.
  Status remove();

 private:
  Status make(const Spec& spec, const Segments::Place& place);
  Status keep_port(const Spec& spec, const Segments::Place& place, std::vector<std::string>* said);
  Status keep_settings(const Spec& spec, std::vector<std::string>* said);
  Status keep_addresses(const Spec& spec, int index, std::vector<std::string>* said);
  Status keep_routes(const Spec& spec, int index, std::vector<std::string>* said);
  Status keep_loopback6(const Spec& spec, int index, std::vector<std::string>* said);

  const Names& names_;
  NetlinkSocket& host_;
  LibNft& nft_;
  std::string table_;
};

}  // namespace muster::overlay
