#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "overlay/balancer/ipvs_plan.h"
#include "overlay/dataplane/vip/client_namespace.h"

namespace muster::overlay {

// The kernel's IPVS, tried in a namespace of its own: the family's number of its generic netlink.
// FAILED_PRECONDITION with what it lacks. The kernel loads its modules meanwhile.
Result<uint16_t> probe_ipvs();
// Whether it can be told which addresses a client uses, so that those that it does not use need
// not have all of their backends; if not, what the kernel says. It loads its module meanwhile.
Status probe_first_use();

// Virtual addresses balanced by IPVS in one client's own network namespace: services by mark
// (ipvs_plan.h) and the nftables that mark (ipvs_rules.h).
class IpvsPlace final : public ClientNamespace {
 public:
  // `netns`: path of the namespace. `family`: from probe_ipvs(). `origin`: see plan_ipvs().
  // `on_use`: see IpvsState. Where somebody else in the namespace listens for that, it is as false.
  static Result<std::unique_ptr<IpvsPlace>> open(const std::string& netns, uint16_t family,
                                                 uint32_t origin, bool on_use);

  std::string_view name() const override { return kIpvsBalancer; }
  Status load() override;
  VipSpreadPtr spread_of(const Ip&) const override { return nullptr; }
  bool as_wished(const VipWish& wish) const override;
  int uses() const override { return state_.on_use ? uses_.fd() : -1; }
  bool may_have_used(const Ip& vip) const override;
  Status serve_uses() override;
  void give_up_uses() override;

 private:
  IpvsPlace(std::string netns, uint16_t family, uint32_t origin);
  Status lead(const std::vector<VipWish>& wishes) override;
  void add_held(std::set<Ip>& vips) const override;
  // An address has led a flow: it is to have all of its backends with the next lead().
  void used(const Ip& vip);
  // Of the list of services, and the backends of some of them: each question has its own answer, so
  // those of a few dozen are asked for at a time, in turn.
  Result<bool> part_drifted() override;
  Result<bool> part_settings_kept() override;
  Status write_part_settings() override;
  Status carry_out(const IpvsPlan& plan);
  Status change_rules(const std::vector<IpvsStep>& steps);
  Status change_services(const std::vector<IpvsStep>& steps);
  using Services = std::map<std::pair<bool, uint32_t>, IpvsService>;  // by family and mark
  // `used`: those that have led a flow.
  Result<Services> list_services(std::set<std::pair<bool, uint32_t>>& used);
  Status list_backends(bool v6, uint32_t mark, IpvsService& service);

  uint16_t family_;
  uint32_t origin_;
  WireSocket generic_;
  WireSocket uses_;
  IpvsState state_;
  std::map<Ip, VipPoolPtr> unused_;      // what they are to have once they are used
  std::vector<VipWish> due_;             // ... and are by now
  std::pair<bool, uint32_t> looked_at_;  // the service whose backends were compared last
};

}  // namespace muster::overlay
