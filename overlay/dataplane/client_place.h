#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "overlay/balancer/vip_balancer.h"
#include "overlay/balancer/vip_plan.h"
#include "overlay/dataplane/client_wire.h"

namespace muster::overlay {

// Virtual addresses balanced by nftables in one client's own network namespace (client_rules.h),
// with a local route for each: it answers pings, gives connections the client's own address and the
// overlay's MTU. The sockets stay open, for closing one waits for the kernel to free what was
// deleted in any namespace (10 ms and more).
class ClientPlace final : public VipBalancer {
 public:
  // `netns`: path of the namespace. `origin`: where its counts begin (VipTransaction).
  static Result<std::unique_ptr<ClientPlace>> open(const std::string& netns, uint32_t origin);

  std::string_view name() const override { return kNftablesBalancer; }
  Status load() override;
  Status apply(const std::vector<VipWish>& wishes) override;
  std::vector<Ip> in_force() const override;
  VipSpreadPtr spread_of(const Ip& vip) const override;
  bool as_wished(const VipWish& wish) const override;
  // Of the rules, the routes and the setting without which every client would answer for the
  // virtual addresses on the wire. Notices changes that others make to their own tables as well:
  // load() then finds that nothing of this differs.
  Result<bool> drifted() override;

  // Addresses of the namespace's interfaces but the loopback's.
  Result<std::vector<Ip>> own_addresses();
  // A socket for looking after the namespace's connections, on any one thread at a time.
  const std::shared_ptr<WireSocket>& connections() const { return connections_; }
  // load(), unless that was done before.
  Status ensure_loaded() { return loaded_ ? ok_status() : load(); }
  // Whether load() had to write the setting since the last question.
  bool setting_was_lost() { return std::exchange(setting_was_lost_, false); }

 private:
  struct LocalRoute {
    Ip source;
    uint32_t mtu = 0;
    friend bool operator==(const LocalRoute&, const LocalRoute&) = default;
  };

  explicit ClientPlace(std::string netns, uint32_t origin)
      : netns_(std::move(netns)), origin_(origin) {}
  Result<bool> settings();
  Status apply_rules(const std::vector<VipWish>& wishes);
  Status transact(VipPlan plan);
  Status apply_routes(const std::vector<VipWish>& wishes, bool removed);
  Result<std::map<Ip, LocalRoute>> list_routes();

  std::string netns_;
  uint32_t origin_;
  WireSocket nft_;
  WireSocket route_;
  std::shared_ptr<WireSocket> connections_;
  bool loaded_ = false;
  bool base_ = false;  // the table is there
  bool setting_was_lost_ = false;
  uint32_t generation_ = 0;  // of the namespace's nftables after our last look or change
  VipState state_;
  std::map<Ip, LocalRoute> routes_;
};

}  // namespace muster::overlay
