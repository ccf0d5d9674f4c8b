#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/fair_mutex.h"
#include "overlay/balancer/nft_balancer.h"
#include "overlay/dataplane/container/attach_plan.h"
#include "overlay/dataplane/container/container_upkeep.h"
#include "overlay/dataplane/esp/esp_tunnels.h"
#include "overlay/dataplane/host/bridges.h"
#include "overlay/dataplane/host/flow_sweeper.h"
#include "overlay/dataplane/host/gateway.h"
#include "overlay/dataplane/host/local_ranges.h"
#include "overlay/dataplane/host/port_keeper.h"
#include "overlay/dataplane/host/published_ports.h"
#include "overlay/dataplane/kernel/names.h"
#include "overlay/dataplane/kernel/namespaces.h"
#include "overlay/dataplane/kernel/netlink.h"
#include "overlay/dataplane/kernel/nft.h"
#include "overlay/dataplane/kernel/nft_table.h"
#include "overlay/dataplane/linux_network.h"
#include "overlay/dataplane/mesh/mesh.h"
#include "overlay/dataplane/mesh/mesh_flows.h"
#include "overlay/dataplane/segment/segments.h"
#include "overlay/dataplane/told/network_truth.h"
#include "overlay/dataplane/vip/client_balancers.h"
#include "overlay/dataplane/vip/client_wire.h"
#include "overlay/dataplane/vip/use_watcher.h"

// For linux_network.cc and linux_attach.cc alone.

namespace muster::overlay {

// The host's end of an interface of a container, and where it is.
struct HostEnd {
  std::string name;
  std::string network_id;  // of the segment it is in; empty: the host's namespace
};

// Two locks, so that work on overlay networks and on the host's own part do not wait for each
// other: overlay_mutex_ comes first where both are held.
class LinuxNetwork final : public NodeNetwork {
 public:
  LinuxNetwork(const NodeNetworkOptions& options, NetlinkSocket rtnl, NetlinkSocket overlay_rtnl,
               NetlinkSocket conntrack, std::unique_ptr<LibNft> nft,
               std::unique_ptr<LibNft> overlay_nft, Log log)
      : names_(options.instance_id),
        pins_(fmt::format("{}/{}/netns", options.run_dir, options.instance_id)),
        log_(log),
        upkeep_(pins_, fmt::format("{}/{}/inside", options.run_dir, options.instance_id), log),
        overlay_rtnl_(std::move(overlay_rtnl)),
        overlay_nft_(std::move(overlay_nft)),
        esp_(names_, *overlay_nft_, options.encryption, log),
        segments_(names_, pins_, overlay_rtnl_, log, &esp_),
        mesh_(names_, pins_, overlay_rtnl_, *overlay_nft_, segments_, log),
        rtnl_(std::move(rtnl)),
        nft_(std::move(nft)),
        sweeper_(std::move(conntrack), log),
        clients_(sweeper_.strand(), log, options.balancer),
        balancer_(*nft_, names_.table()),
        bridges_(names_, rtnl_, *nft_, log),
        gateway_(
            names_, rtnl_, *nft_,
            [id = options.instance_id, resolvers = options.resolvers] {
              return local_ranges(id, resolvers());
            },
            log),
        keeper_(options.port_socket, log),
        ports_(balancer_, sweeper_, log, &keeper_) {}
  // What waits on the sweeper's thread uses the rest.
  ~LinuxNetwork() override {
    uses_.reset();
    sweeper_.stop();
  }

  Status open();

  Result<std::string> attach(const ContainerNetworkRequest& request) override;
  Status reconnect(const ContainerNetworkRequest& request, bool* left) override;
  Status detach(const std::string& container_id) override;
  Status set_published_ports(const std::vector<PublishedPort>& ports,
                             std::vector<v1::PortConfig>* conflicts) override;
  Status set_local_node(const LocalNode& node) override;
  Status set_encryption(const Encryption& encryption) override;
  Status apply(const NetworkStep& step) override;
  Status forget_network(const std::string& network_id) override;
  std::vector<std::string> repair() override;
  std::vector<std::string> limitations() const override {
    std::lock_guard lock(limits_mutex_);
    std::vector<std::string> all = limits_;
    all.insert(all.end(), port_limits_.begin(), port_limits_.end());
    all.insert(all.end(), host_troubles_.begin(), host_troubles_.end());
    return all;
  }
  std::string no_overlays() const override {
    std::lock_guard lock(limits_mutex_);
    return no_overlays_;
  }
  Result<uint32_t> reserve_host_port(v1::PortConfig::Protocol protocol) override {
    std::lock_guard lock(mutex_);
    return ports_.reserve(protocol);
  }
  Status collect_garbage(const std::vector<std::string>& live_container_ids) override;
  Status teardown() override;

 private:
  NftTable table() const;
  Status ensure_table();
  void turn_ports();
  void note_port_limits();
  void repair_table(std::vector<std::string>& said, std::vector<std::string>& failed);
  // What of the listed table is not as it should be, mended; a sentence each.
  Status mend_table(const std::string& listing, std::vector<std::string>& said);
  Status adopt_containers();
  Status adopt_clients();
  Status apply_mesh(const NetworkDifference& difference);
  void follow_flows(const NetworkTruth& truth, const NetworkDifference& difference);
  void forget_flows(const v1::Network& network);
  // Deletes what was led to addresses in the network that nobody has whom flows_ knows.
  void clear_flows(const v1::Network& network);
  Status reach_tasks();
  void note_limits();
  // Has IPsec for the encrypted networks that were told of.
  Status follow_encryption() { return esp_.set_use(esp_use(truths_, node_)); }
  Status check_network(const v1::Network& network);
  Status attach_links(const ContainerNetworkRequest& request, AttachPlan& plan);
  Status expect_links(AttachPlan& plan);
  Status make_segment_links(AttachPlan& plan, int namespace_fd);
  Status make_segment_link(LinkPlan& link, int namespace_fd);
  Status make_host_links(const ContainerNetworkRequest& request, AttachPlan& plan,
                         int namespace_fd);
  Status make_bridge_links(AttachPlan& plan, int namespace_fd);
  Status make_way(const std::string& container_id, const AttachPlan& plan, LinkPlan& link,
                  int namespace_fd);
  Result<std::vector<Prefix>> network_ranges(const ContainerNetworkRequest& request);
  void find_links(const std::string& container_id, PresentLinks& present);
  Status leave_networks(const std::string& container_id, const std::vector<size_t>& numbers);
  Status drop_way(const std::string& container_id);
  Status know_addresses(const std::string& container_id);
  // From here on a container is `entering_`, as long as the result is there.
  std::shared_ptr<void> enter(const std::string& container_id);
  std::vector<std::string> members_of(const std::vector<Prefix>& subnets);
  Status fit_containers(const v1::Network& network);
  Status fit_links(const std::string& container_id, const AttachPlan& plan);
  // Running containers reach all subnets of a network; see subnet_routes.h.
  // `said` (may be null): of containers that lacked one, but for those that are being attached.
  Status lead_to_subnets(const v1::Network& network, std::vector<std::string>* said);
  Status lead_to_subnets_of(const std::string& container_id);
  Status lead_in_bridges(const std::string& container_id, const AttachPlan& plan);
  void repair_subnets(std::vector<std::string>& said);
  void remember(const std::string& container_id, const std::vector<Ip>& addresses);
  std::vector<std::string> host_ends(const std::string& container_id) const;
  void delete_lingering(const std::vector<HostEnd>& ends);
  void delete_lingering_port(const HostEnd& end);
  bool attached(const std::string& end);
  void warn_of_overlap(const v1::Network& network);

  // A node that left a swarm may enter the next one.
  Status reopen();

  Names names_;
  NamespaceDir pins_;
  Log log_;
  ContainerUpkeep upkeep_;  // has a lock of its own, under which nothing else is taken

  // Guards the following; never held while a container's namespace is made. Fair, for repair().
  FairMutex overlay_mutex_;
  NetlinkSocket overlay_rtnl_;
  std::unique_ptr<LibNft> overlay_nft_;
  EspTunnels esp_;
  Segments segments_;
  Mesh mesh_;
  MeshFlows flows_;
  LocalNode node_;
  NetworkTruths truths_;
  // By network, what truths_ has and the kernel was not brought to: it goes with the next step.
  std::map<std::string, NetworkDifference, std::less<>> due_;

  mutable std::mutex limits_mutex_;  // never held while anything is done
  std::vector<std::string> limits_;
  std::string no_overlays_;
  std::vector<std::string> port_limits_;
  std::vector<std::string> host_troubles_;  // what repair() could not mend outside of networks

  std::mutex mutex_;  // guards the rest
  NetlinkSocket rtnl_;
  std::unique_ptr<LibNft> nft_;
  FlowSweeper sweeper_;      // thread-safe
  ClientBalancers clients_;  // guarded by overlay_mutex_, though it has chores for the sweeper
  std::unique_ptr<UseWatcher> uses_;  // of clients_
  NftBalancer balancer_;
  Bridges bridges_;
  Gateway gateway_;
  PortKeeper keeper_;
  PublishedPorts ports_;
  std::vector<PublishedPort> ports_told_;
  bool ports_stale_ = false;        // tasks are reached in another way since
  std::set<std::string> attached_;  // names of host's ends made or found by attach()
  std::map<std::string, std::vector<std::string>> addresses_;  // by container
  // Containers that are being attached or reconnected: what they lack will come.
  std::set<std::string> entering_;
  // Networks of driver bridge with further subnets, by id, as the last container knew them.
  std::map<std::string, v1::Network> grown_bridges_;
  bool torn_down_ = false;
  WireSocket
      generations_;  // asks for the generation of the host's rules; opened with the first look
  std::optional<uint32_t> seen_;  // in which our table was as it should be
};

}  // namespace muster::overlay
