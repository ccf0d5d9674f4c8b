#include "tests/bench/endpoints_suite.h"

#include <fmt/format.h>
#include <linux/netlink.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "agent/names/name_book.h"
#include "overlay/dataplane/kernel/links.h"
#include "overlay/dataplane/kernel/namespaces.h"
#include "overlay/dataplane/linux_network.h"
#include "overlay/dns/name_table.h"
#include "tests/bench/memory.h"

namespace muster::bench {
namespace {

using overlay::NetworkStep;
using overlay::NodeNetwork;
using Steady = std::chrono::steady_clock;

constexpr size_t kTasks = 10;  // of a service
constexpr size_t kNodes = 10;  // elsewhere
constexpr double kRepairsAMinute = 6;
constexpr uint32_t kLoopbackIndex = 1;

struct Size {
  size_t endpoints;
  size_t here;
  size_t changes;
  size_t repairs;
};

double percentile(std::vector<double>& values, size_t percent) {
  std::sort(values.begin(), values.end());
  return values[std::min(values.size() - 1, values.size() * percent / 100)];
}

std::string id_of(size_t i) {
  return fmt::format("{:025}", i);
}
// From 10.80.1.1 on.
std::string address_of(size_t i) {
  return fmt::format("10.80.{}.{}", 1 + i / 250, i % 250 + 1);
}

v1::Network bench_network() {
  v1::Network out;
  out.set_id("bench");
  out.mutable_spec()->mutable_annotations()->set_name("bench");
  out.mutable_spec()->set_driver("overlay");
  auto* pool = out.mutable_state()->add_pools();
  pool->set_subnet("10.80.0.0/16");
  pool->set_gateway("10.80.0.1");
  out.mutable_state()->set_vni(4097);
  out.mutable_state()->set_mtu(1450);
  return out;
}

class EndpointsRun {
 public:
  EndpointsRun(Size size, overlay::BalancerChoice balancer) : size_(size), balancer_(balancer) {}
  ~EndpointsRun() {
    if (network_ != nullptr) (void)network_->teardown();
    network_.reset();
    std::error_code ignored;
    std::filesystem::remove_all(dir_, ignored);
  }

  // The namespace of the calling thread becomes the node's.
  Status set_up() {
    dir_ = "/tmp/muster-endpoints-XXXXXX";
    if (mkdtemp(dir_.data()) == nullptr) return errno_status(errno, dir_);
    if (unshare(CLONE_NEWNET) != 0) return errno_status(errno, "a network namespace");
    MUSTER_ASSIGN(auto socket, overlay::NetlinkSocket::open(NETLINK_ROUTE));
    MUSTER_TRY(socket.run(overlay::set_up(kLoopbackIndex)));
    MUSTER_ASSIGN(const auto own, overlay::Cidr::parse("192.0.2.200/24"));
    MUSTER_TRY(socket.run(overlay::add_address(kLoopbackIndex, own)));
    overlay::NodeNetworkOptions options;
    options.instance_id = "bench";
    options.run_dir = dir_;
    options.balancer = balancer_;
    MUSTER_ASSIGN(network_, overlay::make_node_network(options, null_log()));
    MUSTER_TRY(network_->set_local_node({"here", "192.0.2.200", 4789}));
    NetworkStep empty{"bench", true, {}};
    *empty.feed.mutable_network() = bench_network();
    MUSTER_TRY(network_->apply(empty));
    for (size_t i = 0; i < size_.here; ++i) {
      overlay::ContainerNetworkRequest request;
      request.container_id = fmt::format("c{}", i);
      request.links = {{bench_network(), {address_of(i) + "/16"}, "", false}};
      if (auto attached = network_->attach(request); !attached) return attached.error();
    }
    return ok_status();
  }

  Status measure(Report& report) {
    MUSTER_TRY(load(report));
    MUSTER_TRY(change(report));
    repair(report);
    return names(report);
  }

 private:
  v1::NetworkEndpoint endpoint(size_t i, v1::EndpointState state = v1::ENDPOINT_READY) const {
    v1::NetworkEndpoint out;
    out.set_task_id(id_of(i));
    out.set_service_id(id_of(100'000 + i / kTasks));
    out.set_name(fmt::format("service-{}.{}", i / kTasks, i % kTasks + 1));
    const bool here = i < size_.here;
    out.set_node_id(here ? "here" : fmt::format("node{}", i % kNodes));
    out.add_addresses(address_of(i));
    out.set_mac(fmt::format("02:42:0a:50:{:02x}:{:02x}", 1 + i / 250, i % 250 + 1));
    out.set_state(state);
    out.set_data_path_addr(here ? "192.0.2.200" : fmt::format("192.0.2.{}", 1 + i % kNodes));
    return out;
  }

  NetworkStep everything() const {
    NetworkStep out{"bench", true, {}};
    *out.feed.mutable_network() = bench_network();
    for (size_t i = 0; i < size_.endpoints; ++i) *out.feed.add_endpoints() = endpoint(i);
    for (size_t i = 0; i * kTasks < size_.endpoints; ++i) {
      auto* service = out.feed.add_services();
      service->set_service_id(id_of(100'000 + i));
      service->set_name(fmt::format("service-{}", i));
      service->add_virtual_ips(fmt::format("10.80.200.{}", i + 1));
    }
    return out;
  }

  void add(Report& report, const std::string& name, double kib) const {
    report.add(name, "KiB", kib / static_cast<double>(size_.endpoints));
  }

  Status load(Report& report) {
    const double kernel = kernel_kib();
    const double own = own_pss_kib();
    const double used = own_cpu_ms();
    MUSTER_TRY(network_->apply(everything()));
    report.add("load_cpu_ms", "ms", own_cpu_ms() - used);
    add(report, "load_kernel_per_endpoint", kernel_kib() - kernel);
    add(report, "load_process_per_endpoint", own_pss_kib() - own);
    return ok_status();
  }

  Status change(Report& report) {
    std::vector<double> took;
    const double used = own_cpu_ms();
    for (size_t i = 0; i < size_.changes; ++i) {
      NetworkStep step{"bench", false, {}};
      *step.feed.add_endpoints() =
          endpoint(size_.endpoints / 2, i % 2 == 0 ? v1::ENDPOINT_DRAINING : v1::ENDPOINT_READY);
      const auto start = Steady::now();
      MUSTER_TRY(network_->apply(step));
      took.push_back(std::chrono::duration<double, std::milli>(Steady::now() - start).count());
    }
    report.add("change_cpu_ms", "ms", (own_cpu_ms() - used) / static_cast<double>(size_.changes));
    report.add("change_p50_ms", "ms", percentile(took, 50));
    report.add("change_p99_ms", "ms", percentile(took, 99));
    return ok_status();
  }

  void repair(Report& report) {
    size_t mended = network_->repair().size();  // a first look at what a load has left
    mended = 0;
    const double used = own_cpu_ms();
    for (size_t i = 0; i < size_.repairs; ++i) mended += network_->repair().size();
    const double each = (own_cpu_ms() - used) / static_cast<double>(size_.repairs);
    report.add("repair_cpu_ms", "ms", each);
    report.add("idle_cpu_ms_a_minute", "ms", each * kRepairsAMinute);
    report.add("repair_mended", "1", static_cast<double>(mended));
  }

  // A task here, so that the network is told of; then the feed.
  Status names(Report& report) {
    const double before = own_pss_kib();
    double used = own_cpu_ms();
    agent::NameBook book("here", true);
    v1::LocalTask local;
    v1::Task& task = *local.mutable_assignment()->mutable_task();
    task.set_id(id_of(0));
    task.set_service_id(id_of(100'000));
    task.set_name("service-0.1");
    auto& attachment = *task.add_networks();
    attachment.set_network_id("bench");
    attachment.add_addresses(address_of(0) + "/16");
    *local.mutable_assignment()->add_networks() = bench_network();
    local.set_container_id("0123456789abcdef");
    local.set_endpoint_state(v1::ENDPOINT_READY);
    book.set_task(local);
    book.apply(everything());
    v1::NetdUpdate update = book.complete();
    const auto told = static_cast<size_t>(update.records_size());
    if (told < size_.endpoints - size_.here) return internal_error("netd is told of {}", told);
    report.add("names_book_cpu_ms", "ms", own_cpu_ms() - used);
    report.add("names_update", "KiB", static_cast<double>(update.ByteSizeLong()) / 1024);
    overlay::dns::NameTable table;
    used = own_cpu_ms();
    for (const v1::NetdRecord& record : update.records()) {
      if (record.has_network()) table.set(record.network());
      if (record.has_service()) table.set(record.service());
      if (record.has_endpoint()) table.set(record.endpoint());
    }
    report.add("names_table_cpu_ms", "ms", own_cpu_ms() - used);
    update.Clear();
    v1::NetdUpdate().Swap(&update);
    // Both, as musterd and netd hold one each.
    add(report, "names_per_endpoint", own_pss_kib() - before);
    return ok_status();
  }

  const Size size_;
  const overlay::BalancerChoice balancer_;
  std::string dir_;
  std::unique_ptr<NodeNetwork> network_;
};

}  // namespace

Status run_endpoints_suite(const SuiteOptions& options, Report& report) {
  if (geteuid() != 0) return permission_denied("the suite endpoints makes networks: it needs root");
  // Pins are bind mounts: they stay in a mount namespace of this process.
  if (unshare(CLONE_NEWNS) != 0 ||
      mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    return errno_status(errno, "a mount namespace");
  }
  MUSTER_ASSIGN(const auto balancer, overlay::choose_balancer(options.balancer));
  const Size size = options.smoke ? Size{40, 2, 4, 2} : Size{1000, 20, 200, 20};
  for (int run = 0; run < options.runs; ++run) {
    MUSTER_TRY(overlay::on_own_thread([&]() -> Status {
      EndpointsRun node(size, balancer);
      MUSTER_TRY(node.set_up());
      return node.measure(report);
    }));
  }
  return ok_status();
}

}  // namespace muster::bench
