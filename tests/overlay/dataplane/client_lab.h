#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/thread_executor.h"
#include "base/unique_fd.h"
#include "overlay/dataplane/vip/client_balancers.h"
#include "tests/overlay/dataplane/sandbox.h"

namespace muster::overlay::testing {

// Runs `work` in the network namespace pinned at `netns`, on a thread of its own.
void inside(const std::string& netns, const std::function<void()>& work);

// What one attempt to reach an address came to.
struct Answer {
  int error = 0;     // errno of connecting or sending
  std::string text;  // what the server said: the address that it was reached at
  std::string peer;  // ... and the client's, as the server saw it
};
// Both are to be called inside(). The port is of no server's but every virtual address has it.
// `from`: the client's own port; 0 = any.
UniqueFd connect_tcp(const std::string& address, int port, int* error = nullptr, int from = 0);
Answer ask_on(int fd);
UniqueFd open_udp(const std::string& address, int port);
Answer ask_udp(int fd);

// Says on every connection and for every datagram at which address it was reached and by whom.
class AddressServer {
 public:
  // TCP at any address of the namespace, UDP at each of `udp_addresses`.
  AddressServer(const std::string& netns, int port, const std::vector<std::string>& udp_addresses);
  ~AddressServer();

 private:
  void run();

  std::vector<UniqueFd> sockets_;
  UniqueFd listener_;
  UniqueFd stop_;
  std::thread thread_;
};

// Containers' namespaces in one network 10.60.0.0/16 and fd60::/64, joined by a bridge; as the
// truth tells of it, with a service of tasks.
class ClientLab {
 public:
  ClientLab();
  ~ClientLab();

  bool ok() const { return box.ok(); }
  // A namespace with these addresses ("10.60.0.2", "fd60::2"); returns its path.
  std::string add(const std::string& name, const std::vector<std::string>& addresses);

  // A task of a service, at these addresses; replaces what was said of it.
  NetworkDifference task(const std::string& id, const std::string& service,
                         const std::vector<std::string>& addresses,
                         v1::EndpointState state = v1::ENDPOINT_READY);
  NetworkDifference no_task(const std::string& id);
  NetworkDifference service(const std::string& id, const std::vector<std::string>& vips);
  // The share of a task's of its service's connections.
  NetworkDifference weigh(const std::string& id, uint32_t weight);
  NetworkDifference balance(const std::string& id, v1::EndpointSpec::Balancing by,
                            Duration affinity = {});
  NetworkDifference no_service(const std::string& id);
  // Applies it, in a test.
  void apply(const NetworkDifference& difference);
  // Waits for what goes on in the background.
  void settle();
  // A balancer that knows nothing, as after a restart.
  void restart();
  std::string nft(const std::string& netns) { return box.run(netns, "nft list ruleset"); }
  std::vector<std::string> repair();

  Sandbox box;
  NetworkTruth truth;
  // By MUSTER_TEST_BALANCER: nftables, unless it says ipvs. Without on_use, as nobody waits for
  // uses().
  BalancerChoice choice;
  size_t most = kSlotsMax;  // slots of a virtual address, from the next restart() on
  std::unique_ptr<ThreadExecutor> chores;
  std::unique_ptr<ClientBalancers> clients;
};

}  // namespace muster::overlay::testing
