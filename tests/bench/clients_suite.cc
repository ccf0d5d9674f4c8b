#include "tests/bench/clients_suite.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/unique_fd.h"
#include "overlay/balancer/ipvs_plan.h"
#include "overlay/balancer/vip_plan.h"
#include "overlay/dataplane/kernel/links.h"
#include "overlay/dataplane/kernel/namespaces.h"
#include "overlay/dataplane/vip/client_place.h"
#include "overlay/dataplane/vip/client_rules.h"
#include "overlay/dataplane/vip/ipvs_place.h"
#include "overlay/dataplane/vip/ipvs_rules.h"
#include "overlay/dataplane/vip/ipvs_wire.h"
#include "tests/bench/memory.h"

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

// What leads, and how much of it there is from the start.
struct Kind {
  std::string name;
  uint16_t ipvs = 0;
  bool on_use = false;
};

// ---------------------------------------------------------------- messages

// How many netlink messages, and of how many bytes together.
struct Sent {
  size_t messages = 0;
  size_t bytes = 0;

  void count(const overlay::Wire& wire) {
    const std::string& all = wire.bytes();
    bytes += all.size();
    for (size_t at = 0; at < all.size(); ++messages) {
      nlmsghdr head{};
      std::memcpy(&head, all.data() + at, sizeof(head));
      at += NLMSG_ALIGN(head.nlmsg_len);
    }
  }
};

// What a place sends to bring its wishes about, but for the routes; nothing is sent. An address has
// one route, written when it comes.
class Writer {
 public:
  Writer(uint16_t ipvs, bool on_use) : ipvs_(ipvs) { pools_.on_use = on_use; }

  Sent write(const std::vector<VipWish>& wishes) {
    Sent sent;
    ipvs_ == 0 ? write_slots(wishes, sent) : write_pools(wishes, sent);
    first_ = false;
    return sent;
  }

 private:
  void write_slots(const std::vector<VipWish>& wishes, Sent& sent) {
    overlay::VipPlan plan = overlay::plan_vips(slots_, wishes);
    overlay::VipTransaction transaction(1, 0);
    if (first_) transaction.make_base();
    for (const overlay::VipStep& step : plan.steps) transaction.add(step);
    sent.count(transaction.finish());
    overlay::commit(slots_, std::move(plan));
  }
  void write_pools(const std::vector<VipWish>& wishes, Sent& sent) {
    const overlay::IpvsPlan plan = overlay::plan_ipvs(pools_, wishes, 0);
    bool base = first_;
    for (const auto* steps : {&plan.before, &plan.after}) {
      if (steps->empty()) continue;
      overlay::IpvsTransaction transaction(1);
      if (std::exchange(base, false)) transaction.make_base(pools_.on_use);
      for (const overlay::IpvsStep& step : *steps) transaction.add(step);
      sent.count(transaction.finish());
    }
    overlay::Wire wire;
    for (const overlay::IpvsStep& step : plan.services) overlay::put_ipvs_step(wire, ipvs_, step);
    sent.count(wire);
    overlay::commit(pools_, plan);
  }

  uint16_t ipvs_;
  bool first_ = true;
  overlay::VipState slots_;
  overlay::IpvsState pools_;
};

void add_sent(Report& report, const std::string& name, const Sent& sent) {
  report.add(name + "_messages", "1", static_cast<double>(sent.messages));
  report.add(name + "_bytes", "B", static_cast<double>(sent.bytes));
}

// Also how long planning and writing takes of an installation, without the kernel.
void measure_messages(const Kind& kind, const std::vector<VipWish>& all, Report& report) {
  Writer writer(kind.ipvs, kind.on_use);
  const std::string& name = kind.name;
  const auto start = Steady::now();
  const Sent install = writer.write(all);
  report.add(name + "_install_writing_ms", "ms", ms_since(start));
  add_sent(report, name + "_install", install);
  add_sent(report, name + "_change", writer.write({wish(0, kTasks - 1)}));
}

// ---------------------------------------------------------------- places

struct Places {
  std::vector<UniqueFd> namespaces;
  std::vector<std::unique_ptr<ClientNamespace>> all;

  Status open(const Kind& kind, size_t count) {
    for (size_t i = 0; i < count; ++i) {
      MUSTER_ASSIGN(UniqueFd fd, make_namespace());
      if (kind.ipvs == 0) {
        MUSTER_ASSIGN(auto place, overlay::ClientPlace::open(path_of(fd), 0));
        all.push_back(std::move(place));
      } else {
        MUSTER_ASSIGN(auto place, overlay::IpvsPlace::open(path_of(fd), kind.ipvs, 0, kind.on_use));
        all.push_back(std::move(place));
      }
      namespaces.push_back(std::move(fd));
    }
    return ok_status();
  }
};

void add_times(Report& report, const std::string& name, std::vector<double>& times) {
  report.add(name + "_p50_ms", "ms", percentile(times, 50));
  report.add(name + "_p99_ms", "ms", percentile(times, 99));
}

// The first datagram of each container to an address: until it has all of its tasks there.
Status measure_first_uses(Places& places, const Ip& vip, const std::string& name, Report& report) {
  std::vector<double> times;
  for (size_t i = 0; i < places.all.size(); ++i) {
    MUSTER_TRY(overlay::in_namespace(places.namespaces[i].get(), [&]() -> Status {
      const UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
      sockaddr_in to{};
      to.sin_family = AF_INET;
      to.sin_port = htons(9);
      to.sin_addr.s_addr = htonl(static_cast<uint32_t>(vip.value));
      // Nobody is there; the kernel may well say so.
      (void)::sendto(fd.get(), "x", 1, 0, reinterpret_cast<const sockaddr*>(&to), sizeof(to));
      return ok_status();
    }));
    const auto start = Steady::now();
    MUSTER_TRY(places.all[i]->serve_uses());
    times.push_back(ms_since(start));
  }
  add_times(report, name + "_first_use", times);
  return ok_status();
}

Status measure(const Kind& kind, size_t containers, size_t services, size_t changes,
               Report& report) {
  const std::string& name = kind.name;
  Places places;
  MUSTER_TRY(places.open(kind, containers));
  std::vector<VipWish> all;
  for (size_t i = 0; i < services; ++i) all.push_back(wish(i, kTasks));
  measure_messages(kind, all, report);
  const double before = settled_kernel_kib();
  std::vector<double> installs, one, every;
  for (const auto& place : places.all) {
    const auto start = Steady::now();
    MUSTER_TRY(place->apply(all));
    installs.push_back(ms_since(start));
  }
  const double grown = kernel_kib() - before;
  report.add(name + "_mib", "MiB", grown / 1024);
  report.add(name + "_kib_a_container", "KiB", grown / static_cast<double>(containers));
  add_times(report, name + "_install", installs);
  if (kind.on_use) MUSTER_TRY(measure_first_uses(places, all[0].vip, name, report));
  // A task goes and comes back, in all namespaces each time.
  for (size_t i = 0; i < changes; ++i) {
    const std::vector<VipWish> changed = {wish(0, kTasks - 1 + i % 2)};
    const auto start = Steady::now();
    for (const auto& place : places.all) {
      const auto begin = Steady::now();
      MUSTER_TRY(place->apply(changed));
      one.push_back(ms_since(begin));
    }
    every.push_back(ms_since(start));
  }
  add_times(report, name + "_change", one);
  add_times(report, name + "_change_in_all", every);
  return ok_status();
}

}  // namespace

Status run_clients_suite(const SuiteOptions& options, Report& report) {
  if (geteuid() != 0) return permission_denied("network namespaces need root");
  const size_t containers = options.smoke ? 2 : 100;
  const size_t services = options.smoke ? 5 : 200;
  const size_t changes = options.smoke ? 2 : 100;
  const auto ipvs = overlay::probe_ipvs();
  const bool watches = overlay::probe_first_use().ok();
  for (int run = 0; run < options.runs; ++run) {
    MUSTER_TRY(measure({"nftables"}, containers, services, changes, report));
    if (!ipvs) continue;
    MUSTER_TRY(measure({"ipvs_all", *ipvs}, containers, services, changes, report));
    if (!watches) continue;
    MUSTER_TRY(measure({"ipvs_on_use", *ipvs, true}, containers, services, changes, report));
  }
  return ok_status();
}

}  // namespace muster::bench
