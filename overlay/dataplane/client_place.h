#pragma once

#include <memory>
#include <string>
#include <vector>

#include "overlay/balancer/vip_plan.h"
#include "overlay/dataplane/client_namespace.h"

namespace muster::overlay {

// Virtual addresses balanced by nftables in one client's own network namespace (client_rules.h).
class ClientPlace final : public ClientNamespace {
 public:
  // `netns`: path of the namespace. `origin`: where its counts begin (VipTransaction).
  static Result<std::unique_ptr<ClientPlace>> open(const std::string& netns, uint32_t origin);

  std::string_view name() const override { return kNftablesBalancer; }
  Status load() override;
  Status apply(const std::vector<VipWish>& wishes) override;
  std::vector<Ip> in_force() const override;
  VipSpreadPtr spread_of(const Ip& vip) const override;
  bool as_wished(const VipWish& wish) const override;
  // Of the rules, the routes and the settings. Notices changes that others make to their own tables
  // as well: load() then finds that nothing of this differs.
  Result<bool> drifted() override;

 private:
  explicit ClientPlace(std::string netns, uint32_t origin)
      : ClientNamespace(std::move(netns), {}), origin_(origin) {}
  Status apply_rules(const std::vector<VipWish>& wishes);
  Status transact(VipPlan plan);

  uint32_t origin_;
  bool base_ = false;        // the table is there
  uint32_t generation_ = 0;  // of the namespace's nftables after our last look or change
  VipState state_;
};

}  // namespace muster::overlay
