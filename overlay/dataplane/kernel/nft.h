#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"
#include "overlay/balancer/nft_balancer.h"

struct nft_ctx;

namespace muster::overlay {

// nftables through libnftables: one long-lived context (ending one after deletions costs 8-24 ms in
// the kernel), bound to the network namespace of the thread that made it. Not thread-safe.
class LibNft final : public NftRunner {
 public:
  static Result<std::unique_ptr<LibNft>> make();
  ~LibNft() override;

  Status run(const std::string& commands) override;
  Result<std::string> list(std::string_view table) override { return list("inet", table); }
  // The same for a table of any family.
  Result<std::string> list(std::string_view family, std::string_view table);

 private:
  explicit LibNft(nft_ctx* context) : context_(context) {}
  // The first line of what the library said.
  std::string last_error();

  nft_ctx* context_;
};

}  // namespace muster::overlay
