#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "base/executor.h"
#include "base/log.h"
#include "base/status.h"
#include "base/time.h"
#include "overlay/dataplane/vip/client_wire.h"
#include "overlay/ipam/ip.h"

namespace muster::overlay {

// The backends of a virtual address whose running flows may go on.
struct VipFlows {
  // What goes by datagrams goes on while the backend is ready or drains: once it is released it
  // moves over before the backend stops, so that nothing sent is lost; what may be answered at this
  // moment somewhat later, so that no answer to who asks once is.
  std::set<Ip> datagrams;
  // The rest may go on until the backend is gone.
  std::set<Ip> others;
  // Established TCP connections may while managers do not see the backend, too: it can be alive all
  // the same.
  std::set<Ip> known;
  // The address is a service's. Of one that is removed they go on until its tasks end them.
  bool served = false;
};
using VipFlowsPtr = std::shared_ptr<const VipFlows>;

// Whether a flow to a virtual address, led to `backend`, is stale. `protocol`: IPPROTO_*.
bool flow_is_stale(const VipFlows& flows, uint8_t protocol, bool established, const Ip& backend);

// What leads in a namespace. They differ in how its connection table shows it: IPVS changes where
// answers come from and does not say that it translates. And while IPVS still knows a flow whose
// backend it has no more, its packets are dropped or refused to the client as long as the table has
// it; answers under way need no entry there.
enum class LedBy : uint8_t { kNftables, kIpvs };

// Deletes from one namespace's connection table what is stale of the flows to these virtual
// addresses, and returns how much that was. `allowed` is asked before they are listed and again
// afterwards: a flow to a backend that came while that took its time is not stale. An address that
// it says nothing of has no backends. Costs next to nothing in a namespace without connections,
// else a walk through the kernel's whole table (10-20 ms with 256 k buckets).
//
// With `spared` flows of datagrams that a backend may be answering at this moment are left for a
// later look, where it lives: not answered yet, or with a datagram within the last second. It has
// the kernel's ids of those that the look before left, which are not left once more, and gets those
// that this one leaves.
Result<size_t> delete_stale_flows(WireSocket& connections, LedBy by, const std::set<Ip>& vips,
                                  const std::function<std::map<Ip, VipFlowsPtr>()>& allowed,
                                  std::set<std::string>* spared = nullptr);

// Clears stale flows of many namespaces, off the way of whoever found them stale. Thread-safe.
class ClientFlows {
 public:
  // When what may have been under way is looked at once more.
  static constexpr Duration kAnswerTime = 500ms;

  using Socket = std::shared_ptr<WireSocket>;
  // What may be stale in a namespace.
  struct Due {
    LedBy by = LedBy::kNftables;
    std::set<Ip> vips;
  };

  // Does not own `strand`, which must be stopped before it goes. Sockets are used there alone.
  ClientFlows(Executor& strand, Log log)
      : strand_(strand), waiting_(std::make_shared<Waiting>()), log_(std::move(log)) {}

  // To be called before any flow is led to a backend that is new here. What is said later of an
  // address replaces what was said before.
  void allow(const std::map<Ip, VipFlowsPtr>& flows);
  // To be called once new flows go elsewhere.
  void clear(const std::map<Socket, Due>& namespaces);
  // Closes sockets there: that can take the kernel a while.
  template <class T>
  void dispose(std::shared_ptr<T> thing) {
    strand_.post([thing = std::move(thing)]() mutable { thing.reset(); });
  }

 private:
  struct Waiting {
    std::mutex mutex;
    std::map<Ip, VipFlowsPtr> allowed;
    std::map<Socket, Due> due;
  };

  struct Look {
    Due due;
    std::set<std::string> spared;  // by the look before
  };
  using Work = std::map<Socket, Look>;

  static void run(Executor& strand, const std::shared_ptr<Waiting>& waiting, const Log& log);
  static void clear_all(Executor& strand, const std::shared_ptr<Waiting>& waiting, const Log& log,
                        const Work& work);
  // Of `work`, what there is more to be done of later.
  static Work clear_some(const Work& work, Waiting& waiting, const Log& log);

  Executor& strand_;
  std::shared_ptr<Waiting> waiting_;
  Log log_;
};

}  // namespace muster::overlay
