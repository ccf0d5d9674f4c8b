#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "overlay/dataplane/linux_network.h"

namespace muster::overlay::testing {

// A host of its own for one test: a network namespace in which the test's thread lives until the
// end of the test, a temporary run directory, and another namespace "outside" (192.0.2.2) that
// reaches it at 192.0.2.1. Everything started is killed at the end. Fails without root.
class Sandbox {
 public:
  Sandbox();
  ~Sandbox();

  bool ok() const { return error_.empty(); }
  const std::string& error() const { return error_; }
  const std::string& dir() const { return dir_; }

  std::unique_ptr<NodeNetwork> make_network(const std::string& instance = "n1",
                                            const BalancerChoice& balancer = {});

  // Runs a shell command in a namespace ("" = this host, else the path of its pin) and returns its
  // standard output, without the closing line feed.
  std::string run(const std::string& netns, const std::string& command);
  // The same in the background until the end of the test.
  void start(const std::string& netns, const std::string& command);
  // A TCP server in the namespace that answers every connection with `text`.
  void serve(const std::string& netns, int port, const std::string& text);
  // What one connection reads: the server's text, or "" when it failed.
  std::string ask(const std::string& netns, const std::string& address, int port);
  const std::string& outside() const { return outside_; }

 private:
  std::string error_;
  std::string dir_;
  std::string outside_;
  int original_ns_ = -1;
  std::vector<pid_t> children_;
};

// A shell command that asks by UDP and prints the first line of the answer. Where nobody answers
// soon it asks once more, for longer: to start a server's process takes as long as it takes.
std::string ask_by_udp(const std::string& host_and_port);

v1::Network bridge_network(const std::string& id, const std::string& subnet,
                           const std::string& gateway, bool internal = false);
// The same as an overlay network.
v1::Network overlay_network(const std::string& id, const std::string& subnet,
                            const std::string& gateway, bool internal = false);
ContainerNetworkRequest request(const std::string& id, const v1::Network& network,
                                const std::string& cidr);
PublishedPort published(uint32_t port, uint32_t target, std::vector<std::string> backends,
                        v1::PortConfig::Protocol protocol = v1::PortConfig::TCP);

}  // namespace muster::overlay::testing
