#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "overlay/dataplane/host/flow_sweeper.h"
#include "overlay/dataplane/host/published_ports.h"
#include "overlay/dataplane/mesh/mesh.h"
#include "tests/overlay/dataplane/sandbox.h"

namespace muster::overlay::testing {

// A cluster's ingress network as every node is told of it, and a client outside. Node number i has
// 192.168.50.i and fd50::i on the way to the client (192.0.2.2, 2001:db8:99::2), which passes the
// sandbox's own namespace, and 10.0.0.(10 + i) and fd54::(10 + i) in the ingress network.
class MeshNet {
 public:
  explicit MeshNet(Sandbox& box);

  static std::string node_id(int i) { return fmt::format("node{}", i); }
  static std::string underlay(int i) { return fmt::format("192.168.50.{}", i); }
  static std::string underlay6(int i) { return fmt::format("fd50::{}", i); }
  static std::string inside(int i) { return fmt::format("10.0.0.{}", 10 + i); }
  static std::string task_address(int k) { return fmt::format("10.0.0.{}", 100 + k); }
  static std::string task_address6(int k) { return fmt::format("fd54::{}", 100 + k); }
  // Nodes are members of the network from here on.
  void add_node(int i);
  void remove_node(int i);
  // Task k is on node i.
  void add_task(int k, int i);
  NetworkStep everything() const;

  Sandbox& box;
  v1::Network network;
  std::map<std::string, v1::IngressNode> nodes;
  std::map<std::string, v1::NetworkEndpoint> endpoints;
};

// One node: a namespace of its own, and what a process there would have.
class MeshHost {
 public:
  MeshHost(MeshNet& net, int number);
  ~MeshHost() { close(); }

  // Like a process that starts, or is killed.
  Status open();
  void close();
  // Runs in the node's namespace.
  Status in(const std::function<Status()>& work);
  const std::string& ns() const { return ns_; }

  // Tells the node all of the network.
  Status tell();
  Status tell(const NetworkStep& step);
  // A container with an address in the ingress network, whose default route leads elsewhere.
  // Returns its namespace.
  std::string task(int k, const std::vector<v1::PortConfig>& ports);
  Status publish(const std::vector<PublishedPort>& ports);
  std::vector<std::string> repair();
  // Waits until the connections of what was removed are forgotten.
  void settle();
  Status forget();
  Status remove();
  std::string pin() const { return pins_->path(Segments::pin(net_.network.id())); }

  Mesh& mesh() { return *mesh_; }

 private:
  MeshNet& net_;
  int number_;
  std::string ns_;
  std::unique_ptr<Names> names_;
  std::unique_ptr<NamespaceDir> pins_;
  std::unique_ptr<NetlinkSocket> rtnl_;
  std::unique_ptr<LibNft> nft_;
  std::unique_ptr<FlowSweeper> sweeper_;
  std::unique_ptr<NftBalancer> balancer_;
  std::unique_ptr<PublishedPorts> ports_;
  std::unique_ptr<Segments> segments_;
  std::unique_ptr<Mesh> mesh_;
  NetworkTruths truths_;
};

// What a mesh task publishes: its port 8080 at port 80 of the nodes.
v1::PortConfig mesh_port(v1::PortConfig::Protocol protocol);
// The addresses of tasks, both families.
std::vector<std::string> mesh_backends(const std::vector<int>& tasks);
// A task's servers: TCP and UDP 8080, both families, answer with the address that the client has
// for them; TCP 8081 sends back what it gets. Returns once they listen.
void serve_clients_address(Sandbox& box, const std::string& ns);

}  // namespace muster::overlay::testing
