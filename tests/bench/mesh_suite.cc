#include "tests/bench/mesh_suite.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <unistd.h>

#include <filesystem>
#include <future>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/thread_executor.h"
#include "base/unique_fd.h"
#include "overlay/dataplane/linux_network.h"
#include "tests/bench/mesh_load.h"

namespace muster::bench {
namespace {

using overlay::ContainerNetworkRequest;
using overlay::NetworkStep;
using overlay::NodeNetwork;

constexpr uint16_t kPort = 8080;

// A host: a network namespace with a thread that lives there.
class Host {
 public:
  explicit Host(std::string name) : name_(std::move(name)) {}
  ~Host() {
    (void)run([this]() -> Status {
      if (network != nullptr) MUSTER_TRY(network->teardown());
      network.reset();
      return ok_status();
    });
  }

  Status open() {
    return run([this]() -> Status {
      if (unshare(CLONE_NEWNET) != 0) return errno_status(errno, "a network namespace");
      ns_ = UniqueFd(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
      return ok_status();
    });
  }
  template <class F>
  Status run(F&& work) {
    std::promise<Status> done;
    strand_.post([&] { done.set_value(work()); });
    return done.get_future().get();
  }
  const std::string& name() const { return name_; }
  int ns() const { return ns_.get(); }
  // For programs: nsenter --net=...
  std::string path() const { return fmt::format("/proc/{}/fd/{}", getpid(), ns_.get()); }

  std::unique_ptr<NodeNetwork> network;

 private:
  std::string name_;
  UniqueFd ns_;
  ThreadExecutor strand_{"bench host"};
};

Status shell(const Host& where, const std::string& commands) {
  const std::string line = fmt::format("nsenter --net={} sh -ec '{}' >&2", where.path(), commands);
  if (::system(line.c_str()) == 0) return ok_status();
  return internal_error("failed: {}", commands);
}

v1::Network overlay_network(const std::string& id, const std::string& subnet,
                            const std::string& gateway, uint32_t vni) {
  v1::Network out;
  out.set_id(id);
  out.mutable_spec()->mutable_annotations()->set_name(id);
  out.mutable_spec()->set_driver("overlay");
  out.mutable_spec()->set_ingress(id == "ingress");
  auto* pool = out.mutable_state()->add_pools();
  pool->set_subnet(subnet);
  pool->set_gateway(gateway);
  out.mutable_state()->set_vni(vni);
  out.mutable_state()->set_mtu(1450);
  return out;
}

v1::PortConfig published_port() {
  v1::PortConfig out;
  out.set_target_port(kPort);
  out.set_published_port(kPort);
  return out;
}

class MeshRun {
 public:
  MeshRun(const SuiteOptions& options, overlay::BalancerChoice balancer)
      : seconds_(options.smoke ? 0.1 : 1.0), balancer_(balancer) {}
  ~MeshRun() {
    nodes_.clear();
    std::error_code ignored;
    std::filesystem::remove_all(dir_, ignored);
  }

  Status set_up() {
    dir_ = "/tmp/muster-mesh-XXXXXX";
    if (mkdtemp(dir_.data()) == nullptr) return errno_status(errno, dir_);
    for (const char* name : {"a", "b"}) nodes_.push_back(std::make_unique<Host>(name));
    MUSTER_TRY(outside_.open());
    MUSTER_TRY(shell(outside_,
                     "ip link add br0 type bridge; ip link set br0 up; "
                     "ip address add 192.0.2.9/24 dev br0"));
    for (size_t i = 0; i < nodes_.size(); ++i) MUSTER_TRY(set_up_node(i));
    return ok_status();
  }

  Status measure(Report& report) {
    // Client and server of each path.
    const std::vector<std::pair<std::string, LoadPath>> paths = {
        {"direct", {inside_["a1"].get(), inside_["a2"].get(), "10.77.0.12", kPort, kPort}},
        {"vip", {inside_["a1"].get(), inside_["a2"].get(), "10.77.0.100", kPort, kPort}},
        {"vxlan", {inside_["a1"].get(), inside_["b1"].get(), "10.77.0.21", kPort, kPort}},
        {"far_vip", {inside_["a1"].get(), inside_["b1"].get(), "10.77.0.101", kPort, kPort}},
        {"ingress", {outside_.ns(), inside_["b1"].get(), "192.0.2.1", kPort, kPort}}};
    std::map<std::string, double> gbit, per_s, p50, p99;
    for (const auto& [name, path] : paths) {
      MUSTER_ASSIGN(gbit[name], throughput(path, seconds_));
      MUSTER_ASSIGN(const Connections made, connections(path, seconds_));
      per_s[name] = made.per_s;
      p50[name] = made.us[made.us.size() / 2];
      p99[name] = made.us[made.us.size() * 99 / 100];
      report.add("gbit." + name, "Gbit/s", gbit[name]);
      report.add("conns." + name, "1/s", per_s[name]);
      report.add("p50." + name, "us", p50[name]);
      report.add("p99." + name, "us", p99[name]);
    }
    const auto compare = [&](const std::string& what, const std::string& with,
                             const std::string& name) {
      report.add(name + "_gbit_ratio", "x", gbit[what] / gbit[with]);
      report.add(name + "_conns_ratio", "x", per_s[what] / per_s[with]);
      report.add(name + "_added_p50", "us", p50[what] - p50[with]);
      report.add(name + "_added_p99", "us", p99[what] - p99[with]);
    };
    compare("vip", "direct", "vip");
    compare("far_vip", "vxlan", "far_vip");
    compare("ingress", "vxlan", "ingress");
    return ok_status();
  }

 private:
  Status set_up_node(size_t number) {
    Host& node = *nodes_[number];
    MUSTER_TRY(node.open());
    MUSTER_TRY(shell(outside_, fmt::format("ip link add port-{0} type veth peer name eth0; "
                                           "ip link set port-{0} master br0 up",
                                           node.name())));
    MUSTER_TRY(shell(outside_, fmt::format("ip link set eth0 netns {}", node.path())));
    MUSTER_TRY(shell(node, fmt::format("ip link set lo up; ip address add {}/24 dev eth0; "
                                       "ip link set eth0 up; ip route add default via 192.0.2.9",
                                       underlay(number))));
    return node.run([&] { return start_network(node, number); });
  }

  Status start_network(Host& node, size_t number) {
    overlay::NodeNetworkOptions options;
    options.instance_id = "bench" + node.name();
    options.run_dir = dir_;
    options.balancer = balancer_;
    MUSTER_ASSIGN(node.network, overlay::make_node_network(options, null_log()));
    MUSTER_TRY(node.network->set_local_node({node.name(), underlay(number), 4789}));
    MUSTER_TRY(node.network->apply(bench_step()));
    MUSTER_TRY(node.network->apply(ingress_step()));
    if (number == 0) {
      MUSTER_TRY(attach(node, "a1", {{bench_, {"10.77.0.11/16"}, ""}}));
      MUSTER_TRY(attach(node, "a2", {{bench_, {"10.77.0.12/16"}, ""}}));
    } else {
      MUSTER_TRY(
          attach(node, "b1", {{bench_, {"10.77.0.21/16"}, ""}, {ingress_, {"10.78.0.21/16"}, ""}}));
    }
    overlay::PublishedPort port;
    port.port = published_port();
    port.owner = "far";
    port.backends = {"10.78.0.21"};
    return node.network->set_published_ports({port}, nullptr);
  }

  Status attach(Host& node, const std::string& id, std::vector<overlay::ContainerLink> links) {
    ContainerNetworkRequest request;
    request.container_id = id;
    request.links = std::move(links);
    MUSTER_ASSIGN(const std::string path, node.network->attach(request));
    UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) return errno_status(errno, path);
    inside_[id] = std::move(fd);
    return ok_status();
  }

  static std::string underlay(size_t number) { return fmt::format("192.0.2.{}", number + 1); }

  static void add_endpoint(v1::NetworkFeed& feed, const std::string& task,
                           const std::string& service, size_t node, const std::string& address,
                           const std::string& mac) {
    auto* out = feed.add_endpoints();
    out->set_task_id(task);
    out->set_service_id(service);
    out->set_name(task);
    out->set_node_id(node == 0 ? "a" : "b");
    out->add_addresses(address);
    out->set_mac(mac);
    out->set_state(v1::ENDPOINT_READY);
    out->set_data_path_addr(underlay(node));
  }
  static void add_service(v1::NetworkFeed& feed, const std::string& name, const std::string& vip) {
    auto* out = feed.add_services();
    out->set_service_id(name);
    out->set_name(name);
    out->add_virtual_ips(vip);
  }

  NetworkStep bench_step() const {
    NetworkStep out{bench_.id(), true, {}};
    *out.feed.mutable_network() = bench_;
    add_endpoint(out.feed, "a1", "client", 0, "10.77.0.11", "02:42:0a:4d:00:0b");
    add_endpoint(out.feed, "a2", "near", 0, "10.77.0.12", "02:42:0a:4d:00:0c");
    add_endpoint(out.feed, "b1", "far", 1, "10.77.0.21", "02:42:0a:4d:00:15");
    add_service(out.feed, "near", "10.77.0.100");
    add_service(out.feed, "far", "10.77.0.101");
    return out;
  }
  NetworkStep ingress_step() const {
    NetworkStep out{ingress_.id(), true, {}};
    *out.feed.mutable_network() = ingress_;
    add_endpoint(out.feed, "b1", "far", 1, "10.78.0.21", "02:42:0a:4e:00:15");
    auto* service = out.feed.add_services();
    service->set_service_id("far");
    service->set_name("far");
    *service->add_ports() = published_port();
    for (size_t i = 0; i < 2; ++i) {
      auto* node = out.feed.add_ingress_nodes();
      node->set_node_id(i == 0 ? "a" : "b");
      node->set_index(static_cast<uint32_t>(i + 1));
      node->add_addresses(fmt::format("10.78.0.{}", i + 2));
      node->set_mac(fmt::format("02:42:0a:4e:00:0{}", i + 2));
      node->set_data_path_addr(underlay(i));
    }
    return out;
  }

  const double seconds_;
  const overlay::BalancerChoice balancer_;
  const v1::Network bench_ = overlay_network("bench", "10.77.0.0/16", "10.77.0.1", 4097);
  const v1::Network ingress_ = overlay_network("ingress", "10.78.0.0/16", "10.78.0.1", 4098);
  std::string dir_;
  Host outside_{"outside"};
  std::vector<std::unique_ptr<Host>> nodes_;
  std::map<std::string, UniqueFd> inside_;  // by container
};

}  // namespace

Status run_mesh_suite(const SuiteOptions& options, Report& report) {
  if (geteuid() != 0) return permission_denied("the suite mesh makes networks: it needs root");
  // Pins are bind mounts: they stay in a mount namespace of this process.
  if (unshare(CLONE_NEWNS) != 0 ||
      mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    return errno_status(errno, "a mount namespace");
  }
  MUSTER_ASSIGN(const auto balancer, overlay::choose_balancer(options.balancer));
  MeshRun mesh(options, balancer);
  MUSTER_TRY(mesh.set_up());
  for (int run = 0; run < options.runs; ++run) MUSTER_TRY(mesh.measure(report));
  return ok_status();
}

}  // namespace muster::bench
