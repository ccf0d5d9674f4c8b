#pragma once

#include <functional>
#include <set>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/status.h"
#include "manager/allocator/holdings.h"
#include "manager/allocator/ingress_places.h"
#include "manager/store/store.h"
#include "overlay/ipam/ipam.h"
#include "overlay/ipam/mtu.h"

namespace muster::manager::allocator {

// What a pass has to look at, besides tasks in NEW, which it finds by itself.
struct Work {
  std::set<std::string> networks;  // ids; those that lack some of their subnets among them
  std::set<std::string> services;
  std::set<std::string> connecting;  // tasks that wait to enter networks while they run
  std::set<std::string> nodes;  // that lack a place in the routing mesh, or have one of a former
  bool mtus = false;            // of all networks
  overlay::DataPaths paths;     // what they follow from
  // Tasks that could not be served, not to be tried again before something changes.
  std::unordered_set<std::string> blocked_tasks;
};

// Whether networks of this driver have subnets at all; those of unknown drivers get an error.
bool wants_subnets(const v1::NetworkSpec& spec);

// One transaction of the allocator: takes from the address space, writes objects. Whoever runs it
// calls undo() when the transaction did not commit, or is run once more.
class Pass {
 public:
  // `bytes_max` is soft: the object that passes it is the last one.
  Pass(overlay::Ipam& ipam, IngressPlaces& places, Work& work, size_t tasks_max, size_t bytes_max)
      : ipam_(ipam), places_(places), work_(work), tasks_max_(tasks_max), bytes_max_(bytes_max) {}

  Status run(store::Transaction& tx);
  // Gives back everything taken.
  void undo();
  // Once committed: gives back what a later transaction of the same entry made void, by ending or
  // removing what it was given to. The commit's changes do not tell, since they join both. True
  // when there was anything.
  bool settle(const store::Snapshot& state);
  // Whether there is more to do than one transaction may hold.
  bool more() const { return more_; }

 private:
  // Room for changes is over: the rest is for the next transaction.
  bool full();
  template <class T>
  Status put(store::Transaction& tx, T object);
  Status networks(store::Transaction& tx);
  Status network(store::Transaction& tx, const v1::Network& network);
  Status grow(store::Transaction& tx, const v1::Network& network);
  Status mtus(store::Transaction& tx);
  Status nodes(store::Transaction& tx);
  Status services(store::Transaction& tx);
  Status service(store::Transaction& tx, const v1::Service& service);
  Status tasks(store::Transaction& tx);
  Status task(store::Transaction& tx, const v1::Task& task);
  Status connections(store::Transaction& tx);
  Status connect(store::Transaction& tx, const v1::Task& task);

  Status fill_ports(const store::Snapshot& view, const v1::Service& service,
                    v1::Endpoint& endpoint);
  Status has_addresses(const v1::Network& network) const;
  Status fill_virtual_ips(const store::Snapshot& view, const v1::Service& service,
                          v1::Endpoint& endpoint);
  Result<std::vector<v1::NetworkAttachment>> attachments(const store::Snapshot& view,
                                                         const v1::TaskSpec& spec,
                                                         bool ingress_ports);
  Result<v1::NetworkAttachment> attach(const store::Snapshot& view,
                                       const v1::NetworkAttachmentConfig& wanted);

  overlay::Ipam& ipam_;
  IngressPlaces& places_;
  Work& work_;
  size_t tasks_max_;
  size_t bytes_max_;
  size_t bytes_ = 0;
  bool more_ = false;
  std::vector<std::function<void()>> undo_;
  std::vector<std::pair<std::string, Holdings>> given_tasks_;  // by id, as written
  std::vector<std::pair<std::string, Holdings>> given_services_;
  std::vector<std::string> newly_blocked_;
};

// Whether the task is to enter networks while it runs (Task.connected) that it has no attachment to
// yet.
bool is_connecting(const v1::Task& task);
// Whether the service has all it asks for. What the allocator looks at when a service changes.
bool is_allocated(const store::Snapshot& view, const v1::Service& service);

}  // namespace muster::manager::allocator
