#include "tests/bench/deploy_suite.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/security/tls/credentials.h"
#include "tests/bench/node_under_test.h"

namespace muster::bench {
namespace {

struct Sizes {
  uint64_t first = 20;
  uint64_t scaled = 60;
  uint64_t kept = 10;
};

double seconds(Duration d) {
  return std::chrono::duration<double>(d).count();
}

Status run_once(const Sizes& sizes, NodeUnderTest& node, const std::string& image, Report& report) {
  MUSTER_ASSIGN(const Duration create,
                node.create_service("bench", image, sizes.first, /*host_network=*/true));
  report.add(fmt::format("create{}_host_s", sizes.first), "s", seconds(create));
  MUSTER_ASSIGN(const Duration scale, node.scale("bench", sizes.scaled));
  report.add(fmt::format("scale{}_host_s", sizes.scaled), "s", seconds(scale));
  const NodeUnderTest::Memory memory = node.memory();
  report.add(fmt::format("rss{}_mib", sizes.scaled), "MiB",
             static_cast<double>(memory.rss_kib) / 1024);
  report.add(fmt::format("pss{}_mib", sizes.scaled), "MiB",
             static_cast<double>(memory.pss_kib) / 1024);
  MUSTER_ASSIGN(const Duration update, node.force_update("bench"));
  report.add(fmt::format("update{}_host_s", sizes.scaled), "s", seconds(update));
  MUSTER_ASSIGN(const Duration remove, node.remove("bench"));
  report.add(fmt::format("remove{}_host_s", sizes.scaled), "s", seconds(remove));
  MUSTER_ASSIGN(const Duration bridge,
                node.create_service("bridge", image, sizes.first, /*host_network=*/false));
  report.add(fmt::format("create{}_bridge_s", sizes.first), "s", seconds(bridge));
  MUSTER_ASSIGN(const Duration gone, node.remove("bridge"));
  (void)gone;
  return ok_status();
}

Status run_kill(const Sizes& sizes, NodeUnderTest& node, const std::string& image, Report& report) {
  MUSTER_ASSIGN(const Duration created,
                node.create_service("kept", image, sizes.kept, /*host_network=*/true));
  (void)created;
  MUSTER_ASSIGN(const std::vector<int64_t> before, node.container_pids());
  MUSTER_TRY(node.kill_and_restart());
  MUSTER_ASSIGN(const std::vector<int64_t> after, node.container_pids());
  std::vector<int64_t> same;
  std::set_intersection(before.begin(), before.end(), after.begin(), after.end(),
                        std::back_inserter(same));
  report.add("kept_after_kill", "containers", static_cast<double>(same.size()));
  MUSTER_ASSIGN(const Duration gone, node.remove("kept"));
  (void)gone;
  return ok_status();
}

// The peer's script prints "name unit value" lines.
Status run_peer(int runs, Report& report) {
  const std::string command = fmt::format("tests/bench/deploy_peer.sh {}", runs);
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), pclose);
  if (!pipe) return internal_error("cannot run {}", command);
  std::array<char, 256> line{};
  bool any = false;
  while (fgets(line.data(), line.size(), pipe.get()) != nullptr) {
    char name[64], unit[32];
    double value = 0;
    if (std::sscanf(line.data(), "%63s %31s %lf", name, unit, &value) != 3) continue;
    report.add(std::string("peer.") + name, unit, value);
    any = true;
  }
  if (!any) return failed_precondition("the peer gave no figures: is docker.io installed?");
  return ok_status();
}

}  // namespace

Status run_deploy_suite(const SuiteOptions& options, Report& report) {
  if (geteuid() != 0) return failed_precondition("the suite deploy needs root");
  security::require_tls13();
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe");
  Sizes sizes;
  if (options.smoke) sizes = {2, 4, 2};
  MUSTER_ASSIGN(const auto node, NodeUnderTest::start(self.parent_path()));
  MUSTER_ASSIGN(const std::string image, node->load_busybox());
  for (int run = 0; run < options.runs; ++run) {
    MUSTER_TRY(run_once(sizes, *node, image, report));
    MUSTER_TRY(run_kill(sizes, *node, image, report));
  }
  return options.peer ? run_peer(options.runs, report) : ok_status();
}

}  // namespace muster::bench
