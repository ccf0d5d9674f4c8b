#include "overlay/dataplane/vip/client_place.h"

#include "overlay/dataplane/vip/client_rules.h"

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
    return finish_load();
  }
  return internal_error("the nftables of {} change too quickly to be read", netns_);
}

Status ClientPlace::lead(const std::vector<VipWish>& wishes) {
  for (const auto& piece : pieces(wishes)) MUSTER_TRY(apply_rules(piece));
  return ok_status();
}

Status ClientPlace::apply_rules(const std::vector<VipWish>& wishes) {
  Status done;
  for (int attempt = 0; attempt < kTries; ++attempt) {
    VipPlan plan = plan_vips(state_, wishes);
    if (plan.steps.empty()) {
      commit(state_, std::move(plan));
      return ok_status();
    }
    done = carry_out(std::move(plan));
    if (done.ok()) return done;
    // Somebody else changed something here: look at what there is and work it out anew.
    MUSTER_TRY(load());
    suspect_ = true;
  }
  return done;
}

Status ClientPlace::carry_out(VipPlan plan) {
  VipTransaction transaction(generation_, origin_);
  if (!base_) transaction.make_base();
  for (const VipStep& step : plan.steps) transaction.add(step);
  MUSTER_TRY(transact(transaction));
  commit(state_, std::move(plan));
  return ok_status();
}

void ClientPlace::add_held(std::set<Ip>& vips) const {
  for (const auto& [vip, held] : state_.vips) vips.insert(vip);
}

VipSpreadPtr ClientPlace::spread_of(const Ip& vip) const {
  const auto held = state_.vips.find(vip);
  if (held == state_.vips.end() || held->second.broken || !held->second.guarded) return nullptr;
  return has_route(vip) ? held->second.spread : nullptr;
}

bool ClientPlace::as_wished(const VipWish& wish) const {
  if (!route_as_wished(wish)) return false;
  if (wish.gone()) return state_.vips.count(wish.vip) == 0;
  const VipSpreadPtr spread = spread_of(wish.vip);
  return spread != nullptr && *spread == *wish.spread;
}

}  // namespace muster::overlay
