#include "overlay/dataplane/esp/esp_probe.h"

#include <linux/netlink.h>
#include <sched.h>

#include <cerrno>
#include <utility>

#include "overlay/dataplane/esp/esp_plan.h"
#include "overlay/dataplane/esp/esp_wire.h"
#include "overlay/dataplane/kernel/namespaces.h"
#include "overlay/dataplane/kernel/netlink.h"
#include "overlay/dataplane/kernel/nft.h"

namespace muster::overlay {
namespace {

Status try_it(bool v6) {
  if (unshare(CLONE_NEWNET) != 0) return errno_status(errno, "make a network namespace");
  auto xfrm = NetlinkSocket::open(NETLINK_XFRM);
  if (!xfrm) {
    return failed_precondition("the kernel has no IPsec (module xfrm_user): {}",
                               xfrm.error().message());
  }
  MUSTER_ASSIGN(const Ip from, Ip::parse(v6 ? "2001:db8::1" : "192.0.2.1"));
  MUSTER_ASSIGN(const Ip to, Ip::parse(v6 ? "2001:db8::2" : "192.0.2.2"));
  EncryptionKey key{1, std::string(32, 'k'), true};
  MUSTER_ASSIGN(const EspState state, esp_state(key, from, to, 0, 0));
  const Status added = xfrm->run(esp_add_state({to, esp_spi(from, 1, 0)}, state, 1));
  if (!added.ok()) {
    return failed_precondition("the kernel has no IPsec ESP with AES-GCM (modules {}, gcm): {}",
                               v6 ? "esp6" : "esp4", added.message());
  }
  MUSTER_ASSIGN(const auto nft, LibNft::make());
  Status rules = nft->run(esp_mark_table("probe", "lo", 1));
  if (rules.ok()) rules = nft->run(esp_guard_table("probe", 4789, {1}, 1));
  if (!rules.ok()) {
    return failed_precondition(
        "the kernel cannot keep plain text from leaving (egress hook of nftables since Linux 5.16, "
        "module nft_xfrm): {}",
        rules.message());
  }
  return ok_status();
}

}  // namespace

std::string encryption_trouble(bool v6) {
  const Status tried = on_own_thread([v6] { return try_it(v6); });
  return tried.ok() ? std::string() : tried.message();
}

EncryptionProbe::EncryptionProbe(Ask ask) : ask_(ask ? std::move(ask) : encryption_trouble) {}

std::string EncryptionProbe::trouble(bool v6) {
  std::atomic<bool>& can = can_[v6 ? 1 : 0];
  if (can) return {};
  std::string why = ask_(v6);
  can = why.empty();
  return why;
}

}  // namespace muster::overlay
