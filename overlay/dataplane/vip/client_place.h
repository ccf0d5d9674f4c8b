#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "overlay/balancer/vip_plan.h"
#include "overlay/dataplane/vip/client_namespace.h"

namespace muster::overlay {

// Virtual addresses balanced by nftables in one client's own network namespace (client_rules.h).
class ClientPlace final : public ClientNamespace {
 public:
  // `netns`: path of the namespace. `origin`: where its counts begin (VipTransaction).
  static Result<std::unique_ptr<ClientPlace>> open(const std::string& netns, uint32_t origin);

  std::string_view name() const override { return kNftablesBalancer; }
  Status load() override;
  VipSpreadPtr spread_of(const Ip& vip) const override;
  bool as_wished(const VipWish& wish) const override;

 private:
  explicit ClientPlace(std::string netns, uint32_t origin)
      : ClientNamespace(std::move(netns), {}), origin_(origin) {}
  Status lead(const std::vector<VipWish>& wishes) override;
  void add_held(std::set<Ip>& vips) const override;
  Status apply_rules(const std::vector<VipWish>& wishes);
  Status carry_out(VipPlan plan);

  uint32_t origin_;
  VipState state_;
};

}  // namespace muster::overlay
