#include "overlay/balancer/nft_balancer.h"

#include <algorithm>
#include <utility>

namespace muster::overlay {

Status NftBalancer::load() {
  auto listing = nft_.list(table_);
  if (!listing && listing.error().code() == StatusCode::kNotFound) {
    state_ = {};
    return ok_status();
  }
  if (!listing) return listing.error();
  MUSTER_ASSIGN(state_, parse_nft(*listing));
  made_ = state_;
  return ok_status();
}

Result<std::vector<RemovedBackend>> NftBalancer::apply(const std::vector<Frontend>& frontends) {
  MUSTER_ASSIGN(NftPlan plan, plan_nft(table_, state_, frontends, turn_, most_));
  if (!plan.commands.empty()) {
    if (Status ran = nft_.run(plan.commands); !ran.ok()) {
      // Somebody else may have changed our table: look at what is there and try once more.
      MUSTER_TRY(load());
      MUSTER_ASSIGN(plan, plan_nft(table_, state_, frontends, turn_, most_));
      if (!plan.commands.empty()) MUSTER_TRY(nft_.run(plan.commands));
    }
  }
  state_ = std::move(plan.next);
  made_ = state_;
  return std::move(plan.removed);
}

Result<size_t> NftBalancer::look(std::string_view listing) {
  MUSTER_ASSIGN(NftState found, parse_nft(listing));
  const auto changed =
      std::count_if(state_.frontends.begin(), state_.frontends.end(), [&](const auto& item) {
        const auto there = found.frontends.find(item.first);
        return there == found.frontends.end() || there->second != item.second;
      });
  const auto strange =
      std::count_if(found.frontends.begin(), found.frontends.end(),
                    [&](const auto& item) { return !state_.frontends.contains(item.first); });
  const auto differences = static_cast<size_t>(changed + strange);
  if (differences != 0) state_ = std::move(found);
  return differences;
}

std::vector<FrontendKey> NftBalancer::in_force() const {
  std::vector<FrontendKey> keys;
  for (const auto& [key, frontend] : state_.frontends) keys.push_back(key);
  return keys;
}

}  // namespace muster::overlay
