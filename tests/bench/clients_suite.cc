#include "tests/bench/clients_suite.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "overlay/balancer/ipvs_plan.h"
#include "overlay/balancer/vip_plan.h"
#include "overlay/dataplane/client_place.h"
#include "overlay/dataplane/ipvs_place.h"
#include "overlay/dataplane/links.h"
#include "overlay/dataplane/namespaces.h"

namespace muster::bench {
namespace {

using overlay::ClientNamespace;
using overlay::Ip;
using overlay::VipBackend;
using overlay::VipWish;
using Steady = std::chrono::steady_clock;

constexpr size_t kTasks = 10;  // of a service
constexpr uint32_t kLoopbackIndex = 1;

double ms_since(Steady::time_point start) {
  return std::chrono::duration<double, std::milli>(Steady::now() - start).count();
}

double percentile(std::vector<double>& values, size_t percent) {
  std::sort(values.begin(), values.end());
  return values[std::min(values.size() - 1, values.size() * percent / 100)];
}

// What the kernel has for itself, KiB.
double kernel_kib() {
  std::ifstream meminfo("/proc/meminfo");
  double sum = 0;
  for (std::string key, unit; meminfo >> key;) {
    double value = 0;
    meminfo >> value;
    std::getline(meminfo, unit);
    if (key == "Slab:" || key == "Percpu:" || key == "VmallocUsed:") sum += value;
  }
  return sum;
}

const Ip kOwn = *Ip::parse("10.60.0.2");

// A container's namespace: all that it needs is an address of its own.
Result<UniqueFd> make_namespace() {
  UniqueFd fd;
  MUSTER_TRY(overlay::on_own_thread([&]() -> Status {
    if (unshare(CLONE_NEWNET) != 0) return errno_status(errno, "a network namespace");
    fd = UniqueFd(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    MUSTER_ASSIGN(auto socket, overlay::NetlinkSocket::open(NETLINK_ROUTE));
    MUSTER_TRY(socket.run(overlay::set_up(kLoopbackIndex)));
    MUSTER_ASSIGN(const auto own, overlay::Cidr::parse("10.60.0.2/16"));
    return socket.run(overlay::add_address(kLoopbackIndex, own));
  }));
  return fd;
}

std::string path_of(const UniqueFd& fd) {
  return fmt::format("/proc/{}/fd/{}", getpid(), fd.get());
}

std::vector<VipBackend> tasks_of(size_t service, size_t count) {
  std::vector<VipBackend> out;
  for (size_t i = 0; i < count; ++i) {
    out.push_back(
        {*Ip::parse(fmt::format("10.61.{}.{}", service % 250, service / 250 * 20 + i + 1))});
  }
  return out;
}

VipWish wish(size_t service, size_t tasks) {
  VipWish out;
  out.vip = *Ip::parse(fmt::format("10.60.{}.{}", 1 + service / 250, service % 250 + 1));
  out.spread = overlay::spread_vip(nullptr, tasks_of(service, tasks), false);
  out.pool = overlay::pool_vip(nullptr, {}, tasks_of(service, tasks), {}, {});
  out.name = fmt::format("service-{}", service);
  out.source = kOwn;
  out.mtu = 1450;
  return out;
}

Status measure(uint16_t ipvs, size_t containers, size_t services, Report& report) {
  const std::string name = ipvs == 0 ? "nftables" : "ipvs";
  std::vector<UniqueFd> namespaces;
  std::vector<std::unique_ptr<ClientNamespace>> places;
  for (size_t i = 0; i < containers; ++i) {
    MUSTER_ASSIGN(UniqueFd fd, make_namespace());
    if (ipvs == 0) {
      MUSTER_ASSIGN(auto place, overlay::ClientPlace::open(path_of(fd), 0));
      places.push_back(std::move(place));
    } else {
      MUSTER_ASSIGN(auto place, overlay::IpvsPlace::open(path_of(fd), ipvs, 0));
      places.push_back(std::move(place));
    }
    namespaces.push_back(std::move(fd));
  }
  std::vector<VipWish> all;
  for (size_t i = 0; i < services; ++i) all.push_back(wish(i, kTasks));
  const double before = kernel_kib();
  std::vector<double> installs, changes;
  for (const auto& place : places) {
    const auto start = Steady::now();
    MUSTER_TRY(place->apply(all));
    installs.push_back(ms_since(start));
  }
  report.add(name + "_kib", "KiB", (kernel_kib() - before) / static_cast<double>(containers));
  const std::vector<VipWish> changed = {wish(0, kTasks - 1)};
  for (const auto& place : places) {
    const auto start = Steady::now();
    MUSTER_TRY(place->apply(changed));
    changes.push_back(ms_since(start));
  }
  report.add(name + "_install_p50_ms", "ms", percentile(installs, 50));
  report.add(name + "_install_p99_ms", "ms", percentile(installs, 99));
  report.add(name + "_change_p50_ms", "ms", percentile(changes, 50));
  report.add(name + "_change_p99_ms", "ms", percentile(changes, 99));
  return ok_status();
}

}  // namespace

Status run_clients_suite(const SuiteOptions& options, Report& report) {
  if (geteuid() != 0) return permission_denied("network namespaces need root");
  const size_t containers = options.smoke ? 2 : 100;
  const size_t services = options.smoke ? 5 : 200;
  const auto ipvs = overlay::probe_ipvs();
  for (int run = 0; run < options.runs; ++run) {
    MUSTER_TRY(measure(0, containers, services, report));
    if (ipvs) MUSTER_TRY(measure(*ipvs, containers, services, report));
  }
  return ok_status();
}

}  // namespace muster::bench
