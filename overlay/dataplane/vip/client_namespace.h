#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "overlay/balancer/vip_balancer.h"
#include "overlay/dataplane/vip/client_listing.h"
#include "overlay/dataplane/vip/client_wire.h"

namespace muster::overlay {

class NftBatch;

// What balancers in a client's own network namespace have in common: its sockets, its settings, its
// nftables, and a local route for each virtual address, which answers pings, gives connections the
// client's own address and the overlay's MTU. The sockets stay open, for closing one waits for the
// kernel to free what was deleted in any namespace (10 ms and more).
class ClientNamespace : public VipBalancer {
 public:
  Status apply(const std::vector<VipWish>& wishes) final;
  std::vector<Ip> in_force() const final;
  // Of the rules, the routes, the settings and what else there is. Notices changes that others make
  // to their own tables as well: load() then finds that nothing of this differs.
  Result<bool> drifted() final;
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
  // A descriptor that can be read when the client has used an address for the first time and
  // serve_uses() has something to do by that; -1: nothing is done by that.
  virtual int uses() const { return -1; }
  // Whether it has used this one, as far as that is known.
  virtual bool may_have_used(const Ip& /*vip*/) const { return true; }
  virtual Status serve_uses() { return ok_status(); }
  // Nothing of that any more: another place in the same namespace is to be told.
  virtual void give_up_uses() {}

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
  // The balancer's part of apply().
  virtual Status lead(const std::vector<VipWish>& wishes) = 0;
  // Adds the addresses that its part has anything for.
  virtual void add_held(std::set<Ip>& vips) const = 0;
  // What of its part the generation of the rules does not tell of.
  virtual Result<bool> part_drifted() { return false; }
  // Settings of its part that are no files: looked at, and written, with the others.
  virtual Result<bool> part_settings_kept() { return true; }
  virtual Status write_part_settings() { return ok_status(); }
  // The end of load(), once its part is read.
  Status finish_load();
  // Carries out a transaction that was worked out from generation_, and that makes the table where
  // there was none; the settings come first. ABORTED: somebody else was quicker.
  Status transact(NftBatch& batch);
  bool has_route(const Ip& vip) const { return routes_.contains(vip); }
  bool route_as_wished(const VipWish& wish) const;

  std::string netns_;
  WireSocket nft_;
  bool base_ = false;        // the table is there
  uint32_t generation_ = 0;  // of the namespace's nftables after our last look or change
  // Something was lost that a change alone did not bring back.
  bool suspect_ = false;

 private:
  // Returns whether one had to be written.
  Result<bool> write_settings();
  Result<bool> settings_kept();
  // Those of addresses that go, or of the others.
  Status apply_routes(const std::vector<VipWish>& wishes, bool removed);
  Result<std::map<Ip, LocalRoute>> list_routes();

  WireSocket route_;
  bool loaded_ = false;
  bool setting_was_lost_ = false;
  std::map<Ip, LocalRoute> routes_;
  std::vector<Setting> settings_;
  std::shared_ptr<WireSocket> connections_;
};

}  // namespace muster::overlay
