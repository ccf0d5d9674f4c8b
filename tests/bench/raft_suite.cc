#include "tests/bench/raft_suite.h"

#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/remove_tree.h"
#include "base/security/tls/credentials.h"
#include "tests/bench/put_servers.h"

namespace muster::bench {
namespace {

struct Case {
  int clients;
  size_t bytes;
};
constexpr Case kCases[] = {{1, 256}, {64, 256}, {1000, 256}, {1, 1024}, {64, 1024}, {1000, 1024}};

// A folder of its own on the disk that both sides use.
class WorkFolder {
 public:
  static Result<WorkFolder> make() {
    char path[] = "/var/tmp/muster-bench-raft-XXXXXX";
    if (mkdtemp(path) == nullptr) return fail(errno_status(errno, path));
    return WorkFolder(path);
  }
  WorkFolder(WorkFolder&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  ~WorkFolder() {
    if (!path_.empty()) (void)remove_tree(path_);
  }
  std::filesystem::path operator/(const std::string& name) const {
    return std::filesystem::path(path_) / name;
  }

 private:
  explicit WorkFolder(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

// The processors of servers and client, so that neither takes from the other. With a single one
// there is nothing to divide.
struct Pinning {
  std::string servers;
  cpu_set_t client;
  bool divided = false;

  static Pinning of_machine() {
    Pinning pinning;
    CPU_ZERO(&pinning.client);
    const long count = sysconf(_SC_NPROCESSORS_ONLN);
    if (count < 2) return pinning;
    pinning.divided = true;
    pinning.servers = fmt::format("0-{}", count / 2 - 1);
    for (long i = count / 2; i < count; ++i) CPU_SET(static_cast<size_t>(i), &pinning.client);
    return pinning;
  }
};

Status measure(PutServers& servers, const SuiteOptions& options, const std::string& prefix,
               Report& report) {
  for (const Case& c : kCases) {
    if (options.smoke && c.clients > 64) continue;
    const std::string size = c.bytes == 1024 ? "1k" : fmt::format("{}b", c.bytes);
    const std::string about = fmt::format("{}_{}c", size, c.clients);
    if (!options.only.empty() && options.only != about) continue;
    MUSTER_ASSIGN(const PutTarget target, servers.leader());
    PutLoad load;
    load.clients = c.clients;
    load.value_bytes = c.bytes;
    if (options.smoke) load.warm_up = load.measured = 200ms;
    std::vector<Duration> cpu;
    MUSTER_ASSIGN(const PutFigures figures,
                  run_put_load(target, load, [&] { cpu.push_back(servers.cpu_time()); }));
    report.add(fmt::format("{}commits_{}_per_s", prefix, about), "1/s", figures.per_s);
    report.add(fmt::format("{}p50_{}_ms", prefix, about), "ms", figures.p50_ms);
    report.add(fmt::format("{}p99_{}_ms", prefix, about), "ms", figures.p99_ms);
    const double us = std::chrono::duration<double, std::micro>(cpu[1] - cpu[0]).count();
    report.add(fmt::format("{}cpu_{}_us", prefix, about), "us",
               us / static_cast<double>(std::max<uint64_t>(figures.writes, 1)));
    report.add(fmt::format("{}client_{}_cores", prefix, about), "cores", figures.client_cores);
  }
  return ok_status();
}

}  // namespace

Status run_raft_suite(const SuiteOptions& options, Report& report) {
  security::require_tls13();
  const Pinning pinning = Pinning::of_machine();
  // Before gRPC starts its threads, which inherit it.
  if (pinning.divided && sched_setaffinity(0, sizeof pinning.client, &pinning.client) != 0)
    return errno_status(errno, "cannot choose processors");
  for (int run = 0; run < options.runs; ++run) {
    MUSTER_ASSIGN(const WorkFolder folder, WorkFolder::make());
    {
      MUSTER_ASSIGN(const auto members, start_raft_members(folder / "muster", pinning.servers));
      MUSTER_TRY(measure(*members, options, "", report));
    }
    if (!options.peer) continue;
    MUSTER_ASSIGN(const auto etcd, start_etcd(folder / "etcd", pinning.servers));
    MUSTER_TRY(measure(*etcd, options, "peer.", report).with_context("etcd"));
  }
  return ok_status();
}

}  // namespace muster::bench
