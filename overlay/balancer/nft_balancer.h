#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "overlay/balancer/balancer.h"
#include "overlay/balancer/nft_plan.h"

namespace muster::overlay {

// What runs nftables commands; the implementation over libnftables is in overlay/dataplane.
class NftRunner {
 public:
  virtual ~NftRunner() = default;
  // One transaction: all of it or nothing.
  virtual Status run(const std::string& commands) = 0;
  // The JSON listing of table inet `table`; NOT_FOUND when there is none.
  virtual Result<std::string> list(std::string_view table) = 0;
};

// Spreads by maps of slots in a table the caller has made (rules in nft_plan.h).
class NftBalancer final : public Balancer {
 public:
  // Does not own `nft`. `table` must have the verdict map `ports`.
  // `most`: slots of a map.
  NftBalancer(NftRunner& nft, std::string table, size_t most = kSlotsMax)
      : nft_(nft), table_(std::move(table)), most_(most) {}

  Status load() override;
  Result<std::vector<RemovedBackend>> apply(const std::vector<Frontend>& frontends) override;
  std::vector<FrontendKey> in_force() const override;
  size_t most() const override { return most_; }
  void turn() override { turn_ = next_turn(turn_, most_); }
  // What it has made true last, or found, as commands for whoever makes the table anew, to be run
  // in the same transaction.
  std::string contents() const { return restore_nft(table_, made_); }

  // Compares what it has made with a listing of the table, and takes that for what is there, so
  // that the next apply() mends it. Returns how many frontends differ.
  Result<size_t> look(std::string_view listing);

 private:
  NftRunner& nft_;
  std::string table_;
  size_t most_;
  size_t turn_ = 0;
  NftState state_;  // what is there
  NftState made_;   // the same, as it was before somebody else changed it
};

}  // namespace muster::overlay
