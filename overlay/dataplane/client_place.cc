#include "overlay/dataplane/client_place.h"

#include <cerrno>
#include <set>

#include "overlay/dataplane/client_rules.h"

namespace muster::overlay {
namespace {

// A transaction larger than this is cut: the kernel needs it in one piece.
constexpr size_t kTransactionBytes = 1 << 20;
// How often a change is tried anew when others change the namespace's nftables meanwhile.
constexpr int kTries = 5;

// A plan in pieces that the kernel takes; each step belongs to one address, and what belongs
// together is together.
std::vector<std::vector<VipWish>> pieces(const std::vector<VipWish>& wishes) {
  std::vector<std::vector<VipWish>> out(1);
  size_t bytes = 0;
  for (const VipWish& wish : wishes) {
    // 40 bytes an element, twice in an exchange, and what is around.
    const size_t size = 2048 + (wish.spread == nullptr ? 0 : wish.spread->slots.size() * 80);
    if (bytes + size > kTransactionBytes && !out.back().empty()) {
      out.emplace_back();
      bytes = 0;
    }
    bytes += size;
    out.back().push_back(wish);
  }
  return out;
}

}  // namespace

Result<std::unique_ptr<ClientPlace>> ClientPlace::open(const std::string& netns, uint32_t origin) {
  std::unique_ptr<ClientPlace> place(new ClientPlace(netns, origin));
  MUSTER_TRY(place->open_sockets());
  return place;
}

Status ClientPlace::load() {
  for (int attempt = 0; attempt < kTries; ++attempt) {
    MUSTER_ASSIGN(generation_, nft_generation(nft_));
    auto listing = list_vips(nft_, origin_);
    // Changed while it was read, so that its parts may not fit.
    if (!listing && (listing.error().code() == StatusCode::kAborted ||
                     listing.error().code() == StatusCode::kNotFound)) {
      continue;
    }
    if (!listing) return listing.error();
    MUSTER_ASSIGN(const uint32_t after, nft_generation(nft_));
    if (after != generation_) continue;
    state_ = std::move(listing->state);
    base_ = listing->base_whole;
    MUSTER_ASSIGN(routes_, list_routes());
    if (base_) {
      MUSTER_ASSIGN(const bool written, write_settings());
      setting_was_lost_ = setting_was_lost_ || written;
    }
    loaded_ = true;
    suspect_ = false;
    return ok_status();
  }
  return internal_error("the nftables of {} change too quickly to be read", netns_);
}

Status ClientPlace::apply(const std::vector<VipWish>& wishes) {
  MUSTER_TRY(ensure_loaded());
  // An address that is only routed to would be the client's own, so: first the route away, first
  // the rules there.
  MUSTER_TRY(apply_routes(wishes, true));
  for (const auto& piece : pieces(wishes)) MUSTER_TRY(apply_rules(piece));
  return apply_routes(wishes, false);
}

Status ClientPlace::apply_rules(const std::vector<VipWish>& wishes) {
  Status done;
  for (int attempt = 0; attempt < kTries; ++attempt) {
    VipPlan plan = plan_vips(state_, wishes);
    if (plan.steps.empty()) {
      commit(state_, std::move(plan));
      return ok_status();
    }
    if (!base_) {
      if (auto set = write_settings(); !set) return set.error();
    }
    done = transact(std::move(plan));
    if (done.ok()) return done;
    // Somebody else changed something here: look at what there is and work it out anew.
    MUSTER_TRY(load());
    suspect_ = true;
  }
  return done;
}

Status ClientPlace::transact(VipPlan plan) {
  VipTransaction transaction(generation_, origin_);
  if (!base_) transaction.make_base();
  for (const VipStep& step : plan.steps) transaction.add(step);
  MUSTER_ASSIGN(const auto errors, nft_.exchange(transaction.finish()));
  if (!errors.empty()) {
    const WireError& first = errors.front();
    if (first.error == ERESTART) return Status(StatusCode::kAborted, "nftables were changed");
    return errno_status(first.error, transaction.what(first.sequence));
  }
  // Skips 0, as the kernel does.
  if (++generation_ == 0) ++generation_;
  base_ = true;
  commit(state_, std::move(plan));
  return ok_status();
}

Result<bool> ClientPlace::drifted() {
  if (!loaded_ || suspect_) return true;
  MUSTER_ASSIGN(const uint32_t now, nft_generation(nft_));
  if (now != generation_) return true;
  MUSTER_ASSIGN(const bool routes, routes_drifted());
  if (routes || !base_) return routes;
  MUSTER_ASSIGN(const bool kept, settings_kept());
  return !kept;
}

std::vector<Ip> ClientPlace::in_force() const {
  std::set<Ip> vips;
  for (const auto& [vip, held] : state_.vips) vips.insert(vip);
  for (const auto& [vip, route] : routes_) vips.insert(vip);
  return {vips.begin(), vips.end()};
}

VipSpreadPtr ClientPlace::spread_of(const Ip& vip) const {
  const auto held = state_.vips.find(vip);
  if (held == state_.vips.end() || held->second.broken || !held->second.guarded) return nullptr;
  return routes_.count(vip) == 0 ? nullptr : held->second.spread;
}

bool ClientPlace::as_wished(const VipWish& wish) const {
  if (!route_as_wished(wish)) return false;
  if (wish.gone()) return state_.vips.count(wish.vip) == 0;
  const VipSpreadPtr spread = spread_of(wish.vip);
  return spread != nullptr && *spread == *wish.spread;
}

}  // namespace muster::overlay
