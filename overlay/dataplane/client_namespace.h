#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "overlay/balancer/vip_balancer.h"
#include "overlay/dataplane/client_listing.h"
#include "overlay/dataplane/client_wire.h"

namespace muster::overlay {

// What balancers in a client's own network namespace have in common: its sockets, its settings, and
// a local route for each virtual address, which answers pings, gives connections the client's own
// address and the overlay's MTU. The sockets stay open, for closing one waits for the kernel to
// free what was deleted in any namespace (10 ms and more).
class ClientNamespace : public VipBalancer {
 public:
  // Addresses of the namespace's interfaces but the loopback's.
  Result<std::vector<Ip>> own_addresses();
  // A socket for looking after the namespace's connections, on any one thread at a time.
  const std::shared_ptr<WireSocket>& connections() const { return connections_; }
  // load(), unless that was done before.
  Status ensure_loaded() { return loaded_ ? ok_status() : load(); }
  // Whether it holds rules of this kind, by their marker.
  Result<bool> has_rules(std::string_view marker) { return has_chain(nft_, marker); }
  // Whether load() had to write one of the settings since the last question.
  bool setting_was_lost() { return std::exchange(setting_was_lost_, false); }

 protected:
  struct LocalRoute {
    Ip source;
    uint32_t mtu = 0;
    friend bool operator==(const LocalRoute&, const LocalRoute&) = default;
  };
  struct Setting {
    const char* key;
    const char* value;
  };

  // `netns`: path of the namespace. `settings`: besides arp_ignore, without which every client
  // would answer for the virtual addresses on the wire.
  ClientNamespace(std::string netns, std::vector<Setting> settings);
  // `also`: more to be opened inside.
  Status open_sockets(const std::function<Status()>& also = {});
  // Returns whether one had to be written.
  Result<bool> write_settings();
  Result<bool> settings_kept();
  // Those of addresses that go, or of the others.
  Status apply_routes(const std::vector<VipWish>& wishes, bool removed);
  Result<std::map<Ip, LocalRoute>> list_routes();
  Result<bool> routes_drifted();
  bool route_as_wished(const VipWish& wish) const;

  std::string netns_;
  WireSocket nft_;
  WireSocket route_;
  bool loaded_ = false;
  // Something was lost that a change alone did not bring back.
  bool suspect_ = false;
  bool setting_was_lost_ = false;
  std::map<Ip, LocalRoute> routes_;

 private:
  std::vector<Setting> settings_;
  std::shared_ptr<WireSocket> connections_;
};

}  // namespace muster::overlay
