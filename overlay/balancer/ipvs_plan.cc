#include "overlay/balancer/ipvs_plan.h"

#include <fmt/format.h>
#include <linux/ip_vs.h>

#include <algorithm>

namespace muster::overlay {
namespace {

using What = IpvsStep::What;
using Weights = std::map<Ip, uint32_t>;

bool leads(const Weights& weights) {
  return std::any_of(weights.begin(), weights.end(), [](const auto& w) { return w.second != 0; });
}

Weights all_of(const std::vector<VipBackend>& backends) {
  Weights out;
  for (const auto& [ip, weight] : backends) out.emplace_hint(out.end(), ip, weight);
  return out;
}

// Those that the kernel has and that are wished for still, since any of them may have a flow by now
// that nobody has told of, and as many more as it takes.
Weights few_of(const std::vector<VipBackend>& backends, const std::optional<IpvsService>& held,
               uint32_t origin) {
  Weights out;
  size_t leading = 0;
  const auto take = [&](const VipBackend& backend) {
    if (out.emplace(backend.ip, backend.weight).second && backend.weight != 0) ++leading;
  };
  if (held) {
    for (const auto& [ip, weight] : held->weights) {
      const auto at =
          std::lower_bound(backends.begin(), backends.end(), ip,
                           [](const VipBackend& backend, const Ip& by) { return backend.ip < by; });
      if (at != backends.end() && at->ip == ip) take(*at);
    }
  }
  for (size_t i = 0; i < backends.size() && leading < kIpvsFew; ++i) {
    const VipBackend& next = backends[(origin + i) % backends.size()];
    if (next.weight != 0) take(next);
  }
  return out;
}

// By the client's address there is another backend as soon as there are more: all from the start.
bool to_be_watched(const IpvsState& state, const Ip& vip, const VipPool& pool) {
  return state.on_use && pool.policy.by != v1::EndpointSpec::SOURCE_HASH &&
         !state.used.contains(vip);
}

IpvsHeld wished(const VipPool& pool, const IpvsHeld& held, uint32_t origin, bool watched) {
  IpvsHeld out;
  out.mark = held.mark;
  out.guarded = true;
  out.watched = watched;
  const IpvsShape shape = ipvs_shape(pool.policy);
  for (const size_t half : {kIpvsFlows, kIpvsDatagrams}) {
    const auto& backends = half == kIpvsFlows ? pool.backends : pool.datagrams;
    Weights weights =
        out.watched ? few_of(backends, held.services[half], origin) : all_of(backends);
    if (weights.empty()) continue;
    out.led[half] = leads(weights);
    out.services[half] = IpvsService{shape, std::move(weights)};
  }
  return out;
}

class Planner {
 public:
  Planner(const IpvsState& now, uint32_t origin) : now_(now), origin_(origin) {
    for (const auto& [vip, held] : now.vips) used_.insert(held.mark);
    for (const auto& [v6, mark] : now.strays) {
      add(plan_.services, What::kDropService, v6, mark);
      used_.insert(mark & ~1u);
    }
  }

  void wish(const VipWish& wish) {
    const auto at = now_.vips.find(wish.vip);
    const IpvsHeld held = at == now_.vips.end() ? IpvsHeld() : at->second;
    if (wish.pool == nullptr) {
      plan_.made.emplace_back(wish.vip, std::nullopt);
      if (at == now_.vips.end()) return;
      for (const size_t half : {kIpvsFlows, kIpvsDatagrams}) {
        unlead(wish.vip, held, half);
        drop(wish.vip, held, half);
      }
      if (held.guarded) add(plan_.before, What::kUnguard, wish.vip.v6, held.mark, wish.vip);
      if (held.watched) add(plan_.before, What::kUnwatch, wish.vip.v6, held.mark, wish.vip);
      return;
    }
    IpvsHeld next = wished(*wish.pool, held, origin_, to_be_watched(now_, wish.vip, *wish.pool));
    if (next.mark == 0) next.mark = fresh_mark();
    if (next.watched != held.watched) {
      add(plan_.after, next.watched ? What::kWatch : What::kUnwatch, wish.vip.v6, next.mark,
          wish.vip);
    }
    if (!held.guarded) add(plan_.after, What::kGuard, wish.vip.v6, next.mark, wish.vip);
    for (const size_t half : {kIpvsFlows, kIpvsDatagrams}) {
      if (!next.led[half]) unlead(wish.vip, held, half);
      if (!next.services[half]) {
        drop(wish.vip, held, half);
      } else {
        service(wish.vip, next.mark + static_cast<uint32_t>(half), held.services[half],
                *next.services[half]);
      }
      if (next.led[half] && !held.led[half]) {
        add(plan_.after, What::kLead, wish.vip.v6, next.mark + static_cast<uint32_t>(half),
            wish.vip);
      }
    }
    if (next != held) plan_.made.emplace_back(wish.vip, std::move(next));
  }

  IpvsPlan take() { return std::move(plan_); }

 private:
  static IpvsStep& add(std::vector<IpvsStep>& to, What what, bool v6, uint32_t mark,
                       const Ip& vip = {}) {
    IpvsStep& step = to.emplace_back();
    step.what = what;
    step.v6 = v6;
    step.mark = mark;
    step.vip = vip;
    return step;
  }

  uint32_t fresh_mark() {
    uint32_t mark = next_mark_;
    while (!used_.insert(mark).second) mark += 2;
    next_mark_ = mark + 2;
    return mark;
  }

  void unlead(const Ip& vip, const IpvsHeld& held, size_t half) {
    if (!held.led[half]) return;
    add(plan_.before, What::kUnlead, vip.v6, held.mark + static_cast<uint32_t>(half), vip);
  }

  void drop(const Ip& vip, const IpvsHeld& held, size_t half) {
    if (!held.services[half]) return;
    add(plan_.services, What::kDropService, vip.v6, held.mark + static_cast<uint32_t>(half), vip);
  }

  void backend(What what, const Ip& vip, uint32_t mark, const Ip& ip, uint32_t weight) {
    add(plan_.services, what, vip.v6, mark, vip).backend = {ip, weight};
  }

  void service(const Ip& vip, uint32_t mark, const std::optional<IpvsService>& now,
               const IpvsService& next) {
    if (!now) {
      add(plan_.services, What::kMakeService, vip.v6, mark, vip).shape = next.shape;
    } else if (now->shape != next.shape) {
      add(plan_.services, What::kChangeService, vip.v6, mark, vip).shape = next.shape;
    }
    const Weights none;
    const Weights& former = now ? now->weights : none;
    // First those that come, so that there is never none.
    std::vector<VipBackend> order;
    for (const auto& [ip, weight] : next.weights) order.push_back({ip, weight});
    std::rotate(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(origin_ % order.size()),
                order.end());
    for (const auto& [ip, weight] : order) {
      const auto had = former.find(ip);
      if (had == former.end()) {
        backend(What::kMakeBackend, vip, mark, ip, weight);
      } else if (had->second != weight) {
        backend(What::kWeighBackend, vip, mark, ip, weight);
      }
    }
    for (const auto& [ip, weight] : former) {
      if (!next.weights.contains(ip)) backend(What::kDropBackend, vip, mark, ip, 0);
    }
  }

  const IpvsState& now_;
  uint32_t origin_;
  uint32_t next_mark_ = kIpvsMarkFirst;
  std::set<uint32_t> used_;
  IpvsPlan plan_;
};

}  // namespace

IpvsShape ipvs_shape(const SpreadPolicy& policy) {
  IpvsShape out;
  switch (policy.by) {
    case v1::EndpointSpec::LEAST_CONNECTION: out.scheduler = "wlc"; break;
    case v1::EndpointSpec::SOURCE_HASH:
      out.scheduler = "sh";
      // Without it clients of a backend of weight 0 are refused.
      out.flags = IP_VS_SVC_F_SCHED_SH_FALLBACK;
      break;
    default: out.scheduler = "wrr"; break;
  }
  if (policy.affinity > Duration(0)) {
    out.flags |= IP_VS_SVC_F_PERSISTENT;
    out.timeout_s = static_cast<uint32_t>((policy.affinity + 1s - Duration(1)) / 1s);
  }
  return out;
}

IpvsPlan plan_ipvs(const IpvsState& now, const std::vector<VipWish>& wishes, uint32_t origin) {
  Planner planner(now, origin);
  for (const VipWish& wish : wishes) planner.wish(wish);
  return planner.take();
}

void commit(IpvsState& state, const IpvsPlan& plan) {
  for (const auto& [vip, held] : plan.made) {
    if (held) {
      state.vips[vip] = *held;
    } else {
      state.vips.erase(vip);
      state.used.erase(vip);
    }
  }
  state.strays.clear();
}

void keep_others(const IpvsState& now, IpvsPlan& plan) {
  std::set<Ip> planned;
  for (const auto& [vip, held] : plan.made) planned.insert(vip);
  for (const auto& [vip, held] : now.vips) {
    if (held.mark == 0 || planned.contains(vip)) continue;
    IpvsHeld kept = held;
    kept.guarded = true;
    plan.after.push_back({What::kGuard, vip.v6, held.mark, vip, {}, {}});
    for (const size_t half : {kIpvsFlows, kIpvsDatagrams}) {
      kept.led[half] = held.services[half] && leads(held.services[half]->weights);
      if (!kept.led[half]) continue;
      plan.after.push_back(
          {What::kLead, vip.v6, held.mark + static_cast<uint32_t>(half), vip, {}, {}});
    }
    plan.made.emplace_back(vip, std::move(kept));
  }
}

bool as_wished(const IpvsState& state, const Ip& vip, const VipPool& pool) {
  const auto at = state.vips.find(vip);
  if (at == state.vips.end() || at->second.mark == 0) return false;
  const IpvsHeld& held = at->second;
  // Which are the few does not matter to one that has them.
  return held == wished(pool, held, 0, to_be_watched(state, vip, pool)) ||
         (held.watched && state.used.contains(vip) && held == wished(pool, held, 0, true));
}

std::string describe(const IpvsStep& step) {
  const std::string backend = step.backend.ip.str();
  switch (step.what) {
    case What::kMakeService:
      return fmt::format("make service {:x} {} {:x} {}", step.mark, step.shape.scheduler,
                         step.shape.flags, step.shape.timeout_s);
    case What::kChangeService:
      return fmt::format("change service {:x} {} {:x} {}", step.mark, step.shape.scheduler,
                         step.shape.flags, step.shape.timeout_s);
    case What::kDropService: return fmt::format("drop service {:x}", step.mark);
    case What::kMakeBackend:
      return fmt::format("add {} to {:x} {}", backend, step.mark, step.backend.weight);
    case What::kWeighBackend:
      return fmt::format("weigh {} of {:x} {}", backend, step.mark, step.backend.weight);
    case What::kDropBackend: return fmt::format("drop {} of {:x}", backend, step.mark);
    case What::kLead: return fmt::format("lead {} to {:x}", step.vip.str(), step.mark);
    case What::kUnlead: return fmt::format("lead {} no longer to {:x}", step.vip.str(), step.mark);
    case What::kGuard: return fmt::format("guard {} of {:x}", step.vip.str(), step.mark);
    case What::kUnguard: return fmt::format("guard no longer {}", step.vip.str());
    case What::kWatch: return fmt::format("watch {}", step.vip.str());
    case What::kUnwatch: return fmt::format("watch no longer {}", step.vip.str());
  }
  return {};
}

VipPoolPtr pool_vip(const VipPoolPtr& before, const SpreadPolicy& policy,
                    const std::vector<VipBackend>& ready, const std::vector<Ip>& draining,
                    const std::vector<Ip>& others) {
  Weights flows, datagrams;
  for (const auto& [ip, weight] : ready) flows[ip] = datagrams[ip] = std::max(weight, 1u);
  for (const Ip& ip : draining) {
    flows.emplace(ip, 0);
    datagrams.emplace(ip, 0);
  }
  for (const Ip& ip : others) flows.emplace(ip, 0);
  auto next = std::make_shared<VipPool>();
  next->policy = policy;
  for (const auto& [ip, weight] : flows) next->backends.push_back({ip, weight});
  for (const auto& [ip, weight] : datagrams) next->datagrams.push_back({ip, weight});
  if (before != nullptr && *before == *next) return before;
  return next;
}

}  // namespace muster::overlay
