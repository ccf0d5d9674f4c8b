#include "overlay/balancer/vip_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <iterator>

namespace muster::overlay {
namespace {

using What = VipStep::What;

constexpr std::string_view kChainPrefix = "to_";
constexpr std::string_view kMapPrefix = "slots_";

// nftables takes no colons in names.
std::string stem(const Ip& vip, uint32_t generation) {
  std::string text = vip.str();
  std::replace(text.begin(), text.end(), ':', '_');
  return fmt::format("{}_{}", text, generation);
}

// How many slots: the old number as long as it will do, unless slots are scarce.
size_t slots_for(const std::vector<VipBackend>& backends, size_t have, const SlotScale& scale,
                 bool snug) {
  std::vector<uint32_t> weights;
  for (const VipBackend& backend : backends) weights.push_back(backend.weight);
  const size_t equal = as_equal_backends(weights);
  const bool scarce = scale.least != SlotScale().least || scale.times != SlotScale().times;
  return snug || scarce ? slot_count(equal, scale) : kept_slot_count(equal, have, scale);
}

class Planner {
 public:
  explicit Planner(const VipState& now) : now_(now) {
    plan_.next_generation = now.next_generation;
    for (const std::string& chain : now.dead_chains) add(What::kDropChain, Ip(), 0, chain);
    for (const std::string& map : now.dead_maps) add(What::kDropMap, Ip(), 0, map);
  }

  void wish(const VipWish& wish) {
    const auto at = now_.vips.find(wish.vip);
    if (at == now_.vips.end()) {
      if (wish.spread == nullptr) return;
      add(What::kGuard, wish.vip);
      make(wish);
      return;
    }
    const VipHeld& held = at->second;
    const bool led = leads(held);
    if (wish.spread == nullptr) {
      if (led) retire(wish.vip, held);
      if (held.guarded) add(What::kUnguard, wish.vip);
      plan_.made.emplace_back(wish.vip, std::nullopt);
      return;
    }
    if (!held.guarded) add(What::kGuard, wish.vip);
    if (!held.broken && (held.spread == wish.spread || *held.spread == *wish.spread)) {
      // Pointers are the quick way next time.
      if (held.spread != wish.spread || !held.guarded) keep(wish, held.generation);
      return;
    }
    if (!led) return make(wish);
    if (wish.spread->slots.empty()) {
      retire(wish.vip, held);
      keep(wish, 0);
    } else if (held.broken || held.spread->slots.size() != wish.spread->slots.size() ||
               held.spread->by_source != wish.spread->by_source) {
      retire(wish.vip, held);
      make(wish);
    } else {
      exchange(wish, held);
    }
  }

  VipPlan take() { return std::move(plan_); }

 private:
  static bool leads(const VipHeld& held) { return held.broken || !held.spread->slots.empty(); }

  VipStep& add(What what, const Ip& vip, uint32_t generation = 0, std::string name = {}) {
    VipStep& step = plan_.steps.emplace_back();
    step.what = what;
    step.vip = vip;
    step.generation = generation;
    step.name = std::move(name);
    return step;
  }

  void keep(const VipWish& wish, uint32_t generation) {
    plan_.made.emplace_back(wish.vip, VipHeld{generation, wish.spread});
  }

  void make(const VipWish& wish) {
    if (wish.spread->slots.empty()) return keep(wish, 0);
    const uint32_t generation = plan_.next_generation++;
    add(What::kMakeMap, wish.vip, generation).spread = wish.spread;
    add(What::kMakeChain, wish.vip, generation, wish.name).spread = wish.spread;
    add(What::kLead, wish.vip, generation);
    keep(wish, generation);
  }

  // Nothing new goes there; what is under way in it comes through, for the next plan buries it.
  void retire(const Ip& vip, const VipHeld& held) {
    add(What::kUnlead, vip, held.generation);
    plan_.dead_chains.push_back(vip_chain(vip, held.generation));
    plan_.dead_maps.push_back(vip_map(vip, held.generation));
  }

  void exchange(const VipWish& wish, const VipHeld& held) {
    auto in = differing_slots(*held.spread, *wish.spread);
    if (!in.empty()) {
      VipStep& out = add(What::kDeleteSlots, wish.vip, held.generation);
      out.spread = held.spread;
      for (const auto& [slot, ip] : in) out.slots.emplace_back(slot, held.spread->slots[slot]);
      VipStep& put = add(What::kAddSlots, wish.vip, held.generation);
      put.spread = wish.spread;
      put.slots = std::move(in);
    }
    if (held.spread->fallback != wish.spread->fallback) {
      add(What::kSetRules, wish.vip, held.generation).spread = wish.spread;
    }
    keep(wish, held.generation);
  }

  const VipState& now_;
  VipPlan plan_;
};

}  // namespace

VipSpreadPtr spread_vip(const VipSpreadPtr& before, std::vector<VipBackend> backends,
                        bool by_source, size_t first, const SlotScale& scale, bool snug) {
  std::sort(backends.begin(), backends.end());
  const auto same = [](const VipBackend& a, const VipBackend& b) { return a.ip == b.ip; };
  backends.erase(std::unique(backends.begin(), backends.end(), same), backends.end());
  auto next = std::make_shared<VipSpread>();
  next->by_source = by_source;
  if (!backends.empty()) {
    const size_t have = before == nullptr ? 0 : before->slots.size();
    const size_t count = slots_for(backends, have, scale, snug);
    if (backends.size() > count) {
      std::rotate(backends.begin(),
                  backends.begin() + static_cast<std::ptrdiff_t>(first % backends.size()),
                  backends.end());
      backends.resize(count);
      std::sort(backends.begin(), backends.end());
    }
    std::vector<std::string> old;
    if (have == count || by_source) {
      for (size_t i = 0; i < have; ++i) old.push_back(before->slots[i].str());
      if (have != count) old = resize_slots(old, count);
    }
    std::vector<std::string> names;
    std::vector<uint32_t> weights;
    std::map<std::string, Ip> of_name;
    bool stays = false;
    for (const auto& [ip, weight] : backends) {
      of_name.emplace(names.emplace_back(ip.str()), ip);
      weights.push_back(weight);
      stays = stays || (have != 0 && ip == before->fallback);
    }
    for (const std::string& name : assign_slots(old, names, count, weights)) {
      next->slots.push_back(of_name.at(name));
    }
    next->fallback = stays ? before->fallback : backends.front().ip;
  }
  if (before != nullptr && *before == *next) return before;
  return next;
}

std::vector<std::pair<uint32_t, Ip>> differing_slots(const VipSpread& from, const VipSpread& to) {
  std::vector<std::pair<uint32_t, Ip>> out;
  for (size_t i = 0; i < to.slots.size(); ++i) {
    if (from.slots[i] != to.slots[i]) out.emplace_back(static_cast<uint32_t>(i), to.slots[i]);
  }
  return out;
}

VipPlan plan_vips(const VipState& now, const std::vector<VipWish>& wishes) {
  Planner planner(now);
  for (const VipWish& wish : wishes) planner.wish(wish);
  return planner.take();
}

void commit(VipState& state, VipPlan plan) {
  for (auto& [vip, held] : plan.made) {
    if (held) {
      state.vips[vip] = std::move(*held);
    } else {
      state.vips.erase(vip);
    }
  }
  state.next_generation = plan.next_generation;
  state.dead_chains = std::move(plan.dead_chains);
  state.dead_maps = std::move(plan.dead_maps);
}

std::string vip_chain(const Ip& vip, uint32_t generation) {
  return std::string(kChainPrefix) + stem(vip, generation);
}

std::string vip_map(const Ip& vip, uint32_t generation) {
  return std::string(kMapPrefix) + stem(vip, generation);
}

std::optional<VipName> parse_vip_name(std::string_view name) {
  VipName out;
  if (name.starts_with(kChainPrefix)) {
    out.chain = true;
    name.remove_prefix(kChainPrefix.size());
  } else if (name.starts_with(kMapPrefix)) {
    name.remove_prefix(kMapPrefix.size());
  } else {
    return std::nullopt;
  }
  const size_t end = name.rfind('_');
  if (end == std::string_view::npos) return std::nullopt;
  const std::string_view digits = name.substr(end + 1);
  const auto read = std::from_chars(digits.data(), digits.data() + digits.size(), out.generation);
  if (read.ec != std::errc() || read.ptr != digits.data() + digits.size()) return std::nullopt;
  std::string address(name.substr(0, end));
  std::replace(address.begin(), address.end(), '_', ':');
  const auto ip = Ip::parse(address);
  if (!ip) return std::nullopt;
  out.vip = *ip;
  return out;
}

std::string describe(const VipStep& step) {
  const auto slots = [&] {
    std::string text;
    for (const auto& [slot, ip] : step.slots) {
      fmt::format_to(std::back_inserter(text), "{}{} = {}", text.empty() ? "" : ", ", slot,
                     ip.str());
    }
    return text;
  };
  const std::string of = stem(step.vip, step.generation);
  switch (step.what) {
    case What::kDropChain: return "drop chain " + step.name;
    case What::kDropMap: return "drop map " + step.name;
    case What::kMakeMap: return fmt::format("make map {} of {}", of, step.spread->slots.size());
    case What::kMakeChain:
      return fmt::format("make chain {} for {}, else {}", of, step.name,
                         step.spread->fallback.str());
    case What::kSetRules:
      return fmt::format("rules of {}, else {}", of, step.spread->fallback.str());
    case What::kDeleteSlots: return fmt::format("no slots of {}: {}", of, slots());
    case What::kAddSlots: return fmt::format("slots of {}: {}", of, slots());
    case What::kLead: return fmt::format("lead {} to {}", step.vip.str(), of);
    case What::kUnlead: return fmt::format("lead {} no longer to {}", step.vip.str(), of);
    case What::kGuard: return "guard " + step.vip.str();
    case What::kUnguard: return "guard no longer " + step.vip.str();
  }
  return {};
}

}  // namespace muster::overlay
