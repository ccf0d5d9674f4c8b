#include "overlay/dataplane/vip/balancer_choice.h"

#include "overlay/balancer/vip_balancer.h"
#include "overlay/dataplane/vip/ipvs_place.h"

namespace muster::overlay {

std::string_view BalancerChoice::name() const {
  return ipvs ? kIpvsBalancer : kNftablesBalancer;
}

Result<BalancerChoice> choose_balancer(std::string_view wanted) {
  if (wanted != "auto" && wanted != kNftablesBalancer && wanted != kIpvsBalancer) {
    return fail(invalid_argument("unknown balancer \"{}\": auto, nftables or ipvs", wanted));
  }
  const auto family = probe_ipvs();
  if (!family && wanted == kIpvsBalancer) return fail(family.error());
  BalancerChoice out;
  if (!family) return out;
  out.ipvs_family = *family;
  out.on_use = probe_first_use().ok();
  out.ipvs = wanted != kNftablesBalancer;
  return out;
}

}  // namespace muster::overlay
